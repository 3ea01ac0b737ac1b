"""The one exception type for mistakes that a user can mend: shown as one line, never as a traceback."""


class SurveyError(Exception):
    """What was found, what was expected, and how to fix it.

    Parameters
    ----------
    found : `str`
        What is wrong, with the name of the file, night or column.
    expected : `str`, optional
        What should have been there.
    fix : `str`, optional
        What the user can do about it: a command to type wherever there is one.
    """

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        super().__init__("; ".join(p for p in (found, expected and f"expected {expected}", fix) if p))
