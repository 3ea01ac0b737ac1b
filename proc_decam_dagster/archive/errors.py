"""What may go wrong with a remote site, one type each, so that callers decide by type and users read one line."""

from proc_decam_dagster.errors import SurveyError


class ArchiveError(SurveyError):
    """Base of everything that a remote site may answer instead of what was asked."""


class Unavailable(ArchiveError):
    """The site did not answer, or kept answering with a server error, after every retry."""


class QueryRefused(ArchiveError):
    """The archive understood the request and refused it (unknown field, wrong instrument …)."""


class AuthFailed(ArchiveError):
    """The archive does not accept the user's name and password, or wants some."""


class Proprietary(ArchiveError):
    """The file is not public yet; ``until`` is the date from which it is, as the archive writes it."""

    def __init__(self, found: str, until: str = "", expected: str = "", fix: str = "") -> None:
        super().__init__(found, expected, fix)
        self.until = until


class NotFound(ArchiveError):
    """There is no such file."""


class TransferFailed(ArchiveError):
    """A file broke off: fewer or more bytes arrived than were announced."""


class ChecksumMismatch(ArchiveError):
    """A file arrived whole, but it is not the one whose md5 was asked for; ``found_md5`` is what came."""

    def __init__(self, found: str, found_md5: str, expected: str = "", fix: str = "") -> None:
        super().__init__(found, expected, fix)
        self.found_md5 = found_md5


class DiskFull(ArchiveError):
    """The file does not fit on the disk."""


class Cancelled(ArchiveError):
    """The transfer was stopped by us, because the whole download was."""
