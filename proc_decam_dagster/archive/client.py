"""The archive's HTTP interface: one method an endpoint, with retries, typed errors and both of its key styles."""

import contextlib
import logging
import math
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from proc_decam_dagster import __version__
from proc_decam_dagster.archive import transfer
from proc_decam_dagster.archive.connections import Connections
from proc_decam_dagster.archive.credentials import Credentials, ends_at, find_credentials
from proc_decam_dagster.archive.errors import (
    ArchiveError,
    AuthFailed,
    Cancelled,
    NotFound,
    Proprietary,
    QueryRefused,
    TransferFailed,
    Unavailable,
)

log = logging.getLogger(__name__)

URL = "https://astroarchive.noirlab.edu/api"
URL_VARIABLE = "PROC_DECAM_ARCHIVE_URL"
USER_AGENT = f"proc-decam-dagster/{__version__} (python-requests/{requests.__version__})"
PAGE = 5000
"""Rows asked for at a time; the archive may send fewer."""
RETRIED = frozenset({429, 500, 502, 503, 504})
LONGEST_WAIT = 60.0
LONGEST_REQUESTED_WAIT = 900.0
"""Seconds that we wait because the site asks us to; for longer ones the user is told."""
_MD5 = re.compile(r"[0-9a-f]{32}")


class HttpSite:
    """A web site that is asked politely: a User-Agent, time-outs, and retries with back-off.

    Parameters
    ----------
    url : `str`
        Base address.
    retries : `int`
        How often a request that failed for the moment is made again.
    backoff : `float`
        Seconds before the first retry; doubled for each further one.
    timeout : `tuple` [`float`, `float`]
        Seconds to connect and between two packets.
    """

    def __init__(
        self, url: str, *, retries: int = 4, backoff: float = 1.0, timeout: tuple[float, float] = (15, 180)
    ) -> None:
        self.url = url.rstrip("/")
        self.retries, self.backoff, self.timeout = retries, backoff, timeout
        self._local = threading.local()  # requests promises nothing about a session shared by threads
        self._connections = Connections()
        self._stopped = threading.Event()

    @property
    def session(self) -> requests.Session:
        """This thread's session."""
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.headers["User-Agent"] = USER_AGENT
            for scheme in ("http://", "https://"):
                session.mount(scheme, self._connections)
            self._local.session = session
        return self._local.session

    def request(self, method: str, path: str, **arguments) -> requests.Response:
        """Make one request and return its answer, whatever its status, unless the site is ill.

        Raises
        ------
        Unavailable
            If it could not be reached, or answered with a passing error, after every retry.
        """
        url, reason = f"{self.url}/{path}", ""
        for attempt in range(self.retries + 1):
            wait = 0.0
            self._go_on()
            try:
                response = self.session.request(method, url, timeout=self.timeout, **arguments)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reason = _cause(error)
            except requests.RequestException as error:  # a malformed address, too many redirects: no use to try again
                raise Unavailable(f"{url} cannot be asked ({_short(error)})", fix="check the address") from None
            else:
                if response.status_code not in RETRIED or _answer(response).get("errorCode"):
                    return response
                reason = f"status {response.status_code}"
                wait = _retry_after(response)
                response.close()
                if wait > LONGEST_REQUESTED_WAIT:
                    raise Unavailable(
                        f"{url} asks not to be asked again for {wait / 60:.0f} minutes ({reason})", fix="try again then"
                    )
            if attempt < self.retries:
                self.pause(attempt, wait, f"{url}: {reason}")
        self._go_on()
        raise Unavailable(
            f"{url} does not answer ({reason}; tried {self.retries + 1} times)",
            fix="check the network and the address, or try again later",
        )

    def pause(self, attempt: int, at_least: float = 0.0, why: str = "") -> None:
        """Wait before the next attempt: exponentially longer, with some chance so that threads do not march in step."""
        seconds = min(self.backoff * 2**attempt * random.uniform(0.5, 1.5), LONGEST_WAIT)
        # Those who were told the same time would all come back at that very moment.
        seconds = max(seconds, at_least * random.uniform(1.0, 1.1))
        log.info("%s; trying again in %.1f s", why, seconds)
        if self._stopped.wait(seconds):
            raise Cancelled("the transfer was stopped")

    def stop(self) -> None:
        """End the requests of all threads at once, also those that wait for a server which is silent."""
        self._stopped.set()
        self._connections.end()

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise Cancelled("the transfer was stopped")

    def fetch(
        self, path: str, target: str | os.PathLike, *, on_attempt: Callable[[], None] | None = None, **arguments
    ) -> transfer.Transfer:
        """Stream ``path`` into a file, trying again from its start when it breaks off; see `transfer.write_body`.

        ``on_attempt`` is called before each try.
        """
        for attempt in range(self.retries + 1):
            if on_attempt:
                on_attempt()
            response = self.request("GET", path, stream=True, headers=self.headers())
            try:
                with response:
                    self.check_answer(response, path)
                    return transfer.write_body(response, target, **arguments)
            except TransferFailed as error:
                self._go_on()
                if attempt == self.retries:
                    raise
                self.pause(attempt, why=str(error))
        raise AssertionError("unreachable")

    def text(self, path: str) -> str:
        """Return a small text file."""
        response = self.request("GET", path, headers=self.headers())
        self.check_answer(response, path)
        return response.text

    def headers(self) -> dict[str, str]:
        """Return headers that every request needs; what is fetched must come as it is stored."""
        return {"Accept-Encoding": "identity"}

    def check_answer(self, response: requests.Response, what: str) -> None:
        """Raise the error that an answer stands for, if its status is not 200."""
        if response.status_code == 404:
            raise NotFound(f"{self.url}/{what} does not exist", fix="check the address")
        if response.status_code != 200:
            raise ArchiveError(f"{self.url}/{what} answered {response.status_code} ({_message(response)})", "200")


class Archive(HttpSite):
    """The NOIRLab Astro Data Archive.

    Parameters
    ----------
    url : `str`, optional
        Base address of its API; by default the environment's ``PROC_DECAM_ARCHIVE_URL``, else the real one.
    user, password : `str`, optional
        An account, for proprietary files; by default that of the environment (``NOIRLAB_USER`` and ``NOIRLAB_PASS``,
        or ``NOIRLAB_TOKEN``) or of a file, see `credentials.find_credentials`.
    **how
        Retries, back-off and time-outs, see `HttpSite`.

    Notes
    -----
    Behaviour taken from its manual and from clients (astroquery, proc-decam): answers carry keys as ``md5sum`` or,
    since version 7 and not everywhere, as ``file:md5sum``; missing numbers may be the text ``None``.
    """

    def __init__(self, url: str | None = None, user: str | None = None, password: str | None = None, **how) -> None:
        super().__init__(url or os.environ.get(URL_VARIABLE) or URL, **how)
        given = user is not None or password is not None
        self._credentials = Credentials(user or "", password or "") if given else find_credentials()
        self._token, self._token_ends = self._credentials.token, math.inf if self._credentials.token else 0.0
        self._token_lock = threading.Lock()

    @property
    def user(self) -> str:
        """The account's name."""
        return self._credentials.user

    # ---------------------------------------------------------------- search

    def find(self, search: list, outfields: Iterable[str], *, rectype: str = "file", sort: str = "md5sum",
             page: int = PAGE) -> list[dict]:  # fmt: skip
        """Return all rows that a search finds, with bare keys, each file once.

        Parameters
        ----------
        search : `list`
            Conditions as the API takes them, for instance ``["caldat", "2021-03-18", "2021-03-18"]``.
        outfields : iterable of `str`
            Columns.
        sort : `str`
            Column to sort by: without a fixed order, pages may overlap or leave rows out.
        page : `int`
            Rows a request.

        Raises
        ------
        ArchiveError
            If the archive refuses the search, or sends another number of rows than it counted.
        """
        body = {"outfields": list(outfields), "search": search}
        for _ in range(2):  # a night that is being archived right now grows between the count and the last page
            count, rows = self.count(search, rectype=rectype), []
            while new := self.find_page(body, rectype=rectype, sort=sort, limit=page, offset=len(rows)):
                rows += new
                if len(rows) > 10 * count + page:  # a server that ignores `offset` would send the first page for ever
                    break
            distinct = len({row.get("md5sum", i) for i, row in enumerate(rows)}) if rectype == "file" else len(rows)
            if len(rows) == distinct == count:
                return rows
        raise ArchiveError(
            f"{self.url} sent {len(rows)} rows ({distinct} different ones)",
            f"the {count} that it counted",
            "try again; narrow the dates if it stays",
        )

    def find_page(self, body: dict, *, rectype: str = "file", sort: str = "md5sum", limit: int = PAGE,
                  offset: int = 0) -> list[dict]:  # fmt: skip
        """Return one page of rows with bare keys; empty past the end."""
        query = {"rectype": rectype, "limit": limit, "offset": offset, "sort": sort, "count": "N"}
        return parse_rows(self._search(query, body))

    def count(self, search: list, *, rectype: str = "file") -> int:
        """Return how many rows a search would find."""
        answer = self._search({"rectype": rectype, "count": "Y"}, {"outfields": ["md5sum"], "search": search})
        for element in answer:
            if "count" in element:
                return int(element["count"])
        raise ArchiveError(f"{self.url} did not count its rows", 'an element {"count": N}')

    def _search(self, query: dict, body: dict) -> list[dict]:
        response = self.request("POST", "adv_search/find/", params=query, json=body)
        if response.status_code != 200:
            answer = _answer(response)
            code = answer.get("errorCode") or response.status_code
            raise QueryRefused(f"{self.url} refuses the search: {_message(response)} ({code})")
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, list) or not all(isinstance(element, dict) for element in answer):
            raise ArchiveError(
                f"{self.url} answered a search with no list of rows", "the NOIRLab archive's API", "check --archive-url"
            )
        return answer

    # ---------------------------------------------------------------- files

    def retrieve(self, md5: str, path: str | os.PathLike, **arguments) -> transfer.Transfer:
        """Fetch a file; its final name appears only when its md5 is right.

        Parameters
        ----------
        md5 : `str`
            The file's md5sum in the archive.
        path : `os.PathLike`
            Where to; the folder must exist.
        **arguments
            ``space``, ``stop``, ``on_bytes`` of `transfer.write_body`.

        Raises
        ------
        Proprietary, NotFound, AuthFailed, Unavailable, TransferFailed, ChecksumMismatch, DiskFull
        """
        if not _MD5.fullmatch(md5):
            raise NotFound(f"{md5!r} is no md5sum", "32 hexadecimal digits", "mend the exposure table")
        return self.fetch(f"retrieve/{md5}/", Path(path), md5=md5, **arguments)

    def check(self, md5: str) -> bool:
        """Return whether the archive itself calls a file valid."""
        response = self.request("GET", f"check/{md5}/", headers=self.headers())
        self.check_answer(response, f"check/{md5}")
        answer = _answer(response)
        if "valid" not in answer:
            raise ArchiveError(f"{self.url} did not say whether {md5} is valid", '{"valid": …}')
        return bool(answer["valid"])

    # ---------------------------------------------------------------- who asks

    def token(self, *, fresh: bool = False) -> str:
        """Return the account's token, asked for once; empty without an account.

        Raises
        ------
        AuthFailed
            If the archive does not know the account.
        """
        if not self._credentials:
            return ""
        with self._token_lock:
            if fresh or not self._token or time.time() > self._token_ends:
                self._token = self._new_token()
                self._token_ends = ends_at(self._token) if self._credentials.password else math.inf
        return self._token

    def _new_token(self) -> str:
        known = self._credentials
        if not (known.user and known.password):
            # Somebody else renews it: by now there may be a newer one where it came from.
            found = find_credentials()
            if found.token and found.token != self._token:
                self._credentials = found
                return found.token
            raise AuthFailed(
                f"the token of {known.source} is not accepted any more",
                fix="renew it, or give an account: the token is then renewed without you",
            )
        response = self.request("POST", "get_token/", json={"email": known.user, "password": known.password})
        try:
            token = response.json() if response.status_code == 200 else None
        except ValueError:  # a bad login is answered with plain text, and with status 200 by some versions
            token = None
        if not isinstance(token, str) or not token or " " in token:
            raise AuthFailed(
                f"the archive does not accept the account {known.user} ({_message(response)})",
                fix="set NOIRLAB_USER and NOIRLAB_PASS rightly, or unset both to fetch public files",
            )
        return token

    def headers(self) -> dict[str, str]:
        """Return the headers of a request for a file: the bare token, where there is an account."""
        token = self.token()
        return super().headers() | ({"Authorization": token} if token else {})

    def request(self, method: str, path: str, **arguments) -> requests.Response:
        """Make a request; an outdated token is replaced once."""
        response = super().request(method, path, **arguments)
        sent = (arguments.get("headers") or {}).get("Authorization")
        if response.status_code == 401 and sent and not _until(_message(response)):
            response.close()
            with self._token_lock:
                stale = sent == self._token
            arguments["headers"] = arguments["headers"] | {"Authorization": self.token(fresh=stale)}
            response = super().request(method, path, **arguments)
        return response

    def check_answer(self, response: requests.Response, what: str) -> None:
        """Raise the error that an answer about a file stands for."""
        if response.status_code == 200:
            return
        message, until = _message(response), _until(_message(response))
        if until or "proprietary" in message.lower():
            raise Proprietary(
                f"{what} is proprietary" + (f" until {until}" if until else ""),
                until,
                fix="set NOIRLAB_USER and NOIRLAB_PASS to an account of its programme" if not self.user else "",
            )
        if response.status_code in (401, 403):
            raise AuthFailed(
                f"{what} was refused with status {response.status_code} ({message})",
                fix="set NOIRLAB_USER and NOIRLAB_PASS",
            )
        if response.status_code == 404:
            raise NotFound(f"{what} is not in the archive at {self.url}", fix="make the exposure table again")
        raise ArchiveError(f"{what} was answered with status {response.status_code} ({message})", "status 200")


def parse_rows(answer: list[dict]) -> list[dict]:
    """Return the rows of a search's answer: bare keys, and `None` where the archive writes ``None``.

    Parameters
    ----------
    answer : `list` [`dict`]
        Metadata first (``META``, ``PARAMETERS``, ``HEADER``), then rows with bare or ``file:``/``hdu:`` keys.
    """
    return [
        {key.partition(":")[2] or key: (None if value == "None" else value) for key, value in row.items()}
        for row in answer
        if "META" not in row and "HEADER" not in row and set(row) != {"count"}
    ]


def _retry_after(response: requests.Response) -> float:
    """Return the seconds that a site asks us to wait: it writes a number, or the date at which they are over."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    with contextlib.suppress(TypeError, ValueError):
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    return 0.0


def _answer(response: requests.Response) -> dict:
    try:
        answer = response.json()
    except (ValueError, requests.RequestException):
        return {}
    return answer if isinstance(answer, dict) else {}


def _message(response: requests.Response) -> str:
    answer = _answer(response)
    for key in ("errorMessage", "message", "detail"):
        if answer.get(key):
            return _short(answer[key])
    try:
        return _short(re.sub(r"<[^>]+>", " ", response.text)) or response.reason or ""
    except requests.RequestException:
        return response.reason or ""


def _until(message: str) -> str:
    found = re.search(r"not available to the public until\s+([0-9]{4}-[0-9]{2}-[0-9]{2})", message)
    return found.group(1) if found else ""


def _short(thing: object, length: int = 200) -> str:
    text = " ".join(str(thing).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _cause(error: BaseException) -> str:
    """Return what is at the bottom of a failed request: urllib3 wraps "Connection refused" in three sentences."""
    reason = error
    while (inner := getattr(reason, "reason", None) or next(iter(getattr(reason, "args", ())), None)) is not None:
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return _short(str(reason).rsplit(": ", 1)[-1] or type(reason).__name__)
