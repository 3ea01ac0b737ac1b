"""What a night is calibrated with where it has no masters of its own: the policy, without I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.nights import is_night
from proc_decam_dagster.survey.proc_types import PROC_TYPES

POLICIES = ("own", "nearest")
CERTIFIED = tuple(row.certifies for row in PROC_TYPES.values() if row.certifies)
"""Dataset types of master calibrations, in the order in which they are made."""
DEFAULT_WITHIN_DAYS = 7


@dataclass(frozen=True)
class CalibrationPolicy:
    """Where the masters come from that a night lacks.

    Attributes
    ----------
    nights : `~collections.abc.Mapping` [`str`, `str`]
        Dataset type → the night whose masters are taken.
    within_days : `int`
        The nearest night's are taken if it is no further away than this; 0: only those of ``nights``.
    """

    nights: Mapping[str, str] = field(default_factory=dict)
    within_days: int = 0

    @classmethod
    def of(
        cls, calib_from: Iterable[str] = (), policy: str = "own", within_days: int = DEFAULT_WITHIN_DAYS
    ) -> "CalibrationPolicy":
        """Return the policy that words describe.

        Parameters
        ----------
        calib_from : `~collections.abc.Iterable` [`str`]
            A night, for all masters, or ``bias=20190402``.
        policy : `str`
            ``own`` or ``nearest``.
        within_days : `int`
            How far the nearest night may be away.

        Raises
        ------
        SurveyError
            If a word is none of these, or a dataset type is given twice.
        """
        if policy not in POLICIES:
            raise SurveyError(f"calibration policy {policy!r} is unknown", f"one of {', '.join(POLICIES)}")
        if within_days < 1:
            raise SurveyError(f"calibrations within {within_days} days", "1 day or more")
        nights: dict[str, str] = {}
        for word in calib_from:
            dataset, _, night = word.strip().rpartition("=")
            require_night(night)
            if dataset and dataset not in CERTIFIED:
                raise SurveyError(f"calibration {dataset!r} is unknown", f"one of {', '.join(CERTIFIED)}")
            wanted = [dataset] if dataset else CERTIFIED
            twice = [d for d in wanted if nights.get(d, night) != night]
            if twice:
                raise SurveyError(f"{twice[0]} is to come from {nights[twice[0]]} and from {night}", "one night")
            nights |= dict.fromkeys(wanted, night)
        return cls(nights, within_days if policy == "nearest" else 0)

    def provides(self, dataset: str) -> bool:
        """Whether a dataset type that is missing may come from another night."""
        return dataset in self.nights or self.within_days > 0

    def __str__(self) -> str:
        parts = [f"{dataset} from {night}" for dataset, night in self.nights.items()]
        if self.within_days:
            parts.append(f"nearest within {self.within_days} days")
        return ", ".join(parts) or "own"


OWN = CalibrationPolicy()
"""Nothing comes from another night."""


def require_night(text: str) -> None:
    """Raise `SurveyError` unless a text is a date written YYYYMMDD."""
    try:
        if not is_night(text):
            raise ValueError
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        raise SurveyError(f"{text!r} is no night", "a date written YYYYMMDD, such as 20190402") from None


def days_apart(night: str, other: str) -> int:
    """Return the days from one night to another: negative if the other one is earlier."""
    first, second = (datetime.strptime(n, "%Y%m%d") for n in (night, other))
    return (second - first).days


def distance(night: str, other: str) -> str:
    """Return in words how far another night is away, such as ``1 day earlier``."""
    days = days_apart(night, other)
    return f"{abs(days)} day{'s' if abs(days) != 1 else ''} {'earlier' if days < 0 else 'later'}"
