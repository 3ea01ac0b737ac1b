"""Tables of public TAP services, box by box: every row that lies in a box, or an error; never a part of them."""

import functools
import random
import time
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from astropy.table import Table, vstack

from proc_decam_dagster.archive.client import USER_AGENT
from proc_decam_dagster.archive.errors import QueryRefused, TransferFailed, Unavailable

ROWS = 100_000
"""A box with more rows is divided before it is asked for."""
SMALLEST_DEG = 1e-3
"""A box is not divided further than this: a service that cannot send so few rows is broken."""


class SkyBox(NamedTuple):
    """A box of ICRS coordinates (deg), its upper edges open but for the pole: boxes side by side share no source."""

    ra0: float
    ra1: float
    dec0: float
    dec1: float

    def halves(self) -> tuple["SkyBox", "SkyBox"]:
        """Return the box in two, across its longer side on the sky."""
        middle = np.cos(np.radians((self.dec0 + self.dec1) / 2))
        if (self.ra1 - self.ra0) * middle > self.dec1 - self.dec0:
            ra = (self.ra0 + self.ra1) / 2
            return self._replace(ra1=ra), self._replace(ra0=ra)
        dec = (self.dec0 + self.dec1) / 2
        return self._replace(dec1=dec), self._replace(dec0=dec)

    @property
    def size(self) -> float:
        """Its longer side (deg)."""
        return max(self.ra1 - self.ra0, self.dec1 - self.dec0)


@dataclass(frozen=True)
class TapTable:
    """A catalogue at a TAP service.

    Attributes
    ----------
    url : `str`
        Base address of the service.
    table : `str`
        Its name there.
    columns : `tuple` [`str`, …]
        What is asked for; the first is the source's unique id.
    ra, dec : `str`
        Columns of the position (deg).
    condition : `str`
        What rows must satisfy besides; empty if nothing.
    """

    url: str
    table: str
    columns: tuple[str, ...]
    ra: str = "ra"
    dec: str = "dec"
    condition: str = ""

    def where(self, box: SkyBox) -> str:
        """Return the condition of a box: plain comparisons, since not every service translates POINT and CIRCLE."""
        upper = "<=" if box.dec1 >= 90 else "<"
        parts = [
            f"{self.ra} >= {box.ra0:.9f}", f"{self.ra} < {box.ra1:.9f}",
            f"{self.dec} >= {box.dec0:.9f}", f"{self.dec} {upper} {box.dec1:.9f}",
        ]  # fmt: skip
        return " AND ".join([*parts, *([self.condition] if self.condition else [])])


class TapSite:
    """A TAP service that is asked politely, by its synchronous endpoint.

    Parameters
    ----------
    url : `str`
        Base address; ``/sync`` lies below it.
    retries : `int`
        How often a query that failed for the moment is made again.
    backoff : `float`
        Seconds before the first retry; doubled for each further one.
    timeout : `tuple` [`float`, `float`]
        Seconds to connect and between two packets.
    """

    def __init__(
        self, url: str, *, retries: int = 3, backoff: float = 2.0, timeout: tuple[float, float] = (15, 600)
    ) -> None:
        self.url, self.retries, self.backoff, self.timeout = url.rstrip("/"), retries, backoff, timeout

    def rows(self, table: TapTable, box: SkyBox, most: int = ROWS) -> Table:
        """Return every row of a table in a box; columns in lower case.

        The service is asked how many rows there are before it is asked for them; where it sends fewer, says that it
        reached its limit, or has more than ``most``, the box is divided.

        Raises
        ------
        QueryRefused
            If the service does not understand the query.
        TransferFailed
            If it keeps sending fewer rows than it counts, however small the box.
        Unavailable
            If it does not answer.
        """
        where = table.where(box)
        counted, _ = self.query(f"SELECT COUNT(*) AS n FROM {table.table} WHERE {where}")
        expected = int(counted[counted.colnames[0]][0])
        if expected <= most or box.size <= SMALLEST_DEG:
            found, whole = self.query(f"SELECT {', '.join(table.columns)} FROM {table.table} WHERE {where}")
            if whole and len(found) == expected:
                return found
            if box.size <= SMALLEST_DEG:
                raise TransferFailed(
                    f"{self.url} sent {len(found)} rows of {table.table} where {where}",
                    f"the {expected} that it counts",
                    "try again later, or use another service (--tap-url)",
                )
        halves = [self.rows(table, half, most) for half in box.halves()]
        return vstack(halves, metadata_conflicts="silent")

    def query(self, adql: str) -> tuple[Table, bool]:
        """Return the answer to a query, and whether the service says that it is whole."""
        from pyvo.dal.exceptions import DALFormatError, DALQueryError, DALServiceError

        for attempt in range(self.retries + 1):
            try:
                return self._query(adql)
            except DALQueryError as error:
                raise QueryRefused(f"{self.url} refuses the query {adql!r}: {_said(error)}") from None
            except DALServiceError as error:
                code = getattr(error, "code", None)
                if code is not None and 400 <= int(code) < 500 and int(code) != 429:
                    raise QueryRefused(f"{self.url} refuses the query {adql!r}: {_said(error)} ({code})") from None
                failure = self._unavailable(error, attempt)
            except DALFormatError as error:  # what came is no VOTable, or not the whole of one
                if isinstance(getattr(error, "cause", None), OSError):  # requests' own errors are among them
                    failure = self._unavailable(error, attempt)
                else:
                    failure = TransferFailed(
                        f"{self.url} sent an answer that cannot be read ({_said(error)}; tried {attempt + 1} times)",
                        "a VOTable",
                        "check that the address is that of a TAP service, or try again later",
                    )
            if attempt == self.retries:
                raise failure
            time.sleep(self.backoff * 2**attempt * random.uniform(0.75, 1.25))
        raise AssertionError("unreachable")

    def _unavailable(self, error: Exception, attempt: int) -> Unavailable:
        return Unavailable(
            f"{self.url} does not answer ({_said(error)}; tried {attempt + 1} times)",
            fix="check the network and the address, or try again later",
        )

    def _query(self, adql: str) -> tuple[Table, bool]:
        import pyvo
        import requests
        from pyvo.dal.exceptions import DALOverflowWarning, DALQueryError

        # Too many rows are no surprise here, and how services bend the VOTable standard is not the user's concern.
        warnings.filterwarnings("ignore", category=DALOverflowWarning)
        warnings.filterwarnings("ignore", module=r"astropy\.io\.votable")
        with requests.Session() as session:
            session.headers["User-Agent"] = USER_AGENT
            session.request = functools.partial(session.request, timeout=self.timeout)
            result = pyvo.dal.TAPService(self.url, session=session).run_sync(adql)
            states = _states(result.votable)
            # A service may find out that something is wrong when half the rows are sent: it is said after them.
            for value, text in states:
                if value.upper() == "ERROR":
                    raise DALQueryError(text or "error")
            found = result.to_table()
        found.rename_columns(found.colnames, [name.lower() for name in found.colnames])
        return found, all(value.upper() != "OVERFLOW" for value, _ in states)


def _states(votable) -> list[tuple[str, str]]:
    """Return value and text of every QUERY_STATUS, before and after the rows."""
    infos = list(votable.infos)
    for resource in votable.resources:
        infos += [*resource.infos, *(info for table in resource.tables for info in table.infos)]
    return [(str(i.value), str(i.content or "")) for i in infos if i.name == "QUERY_STATUS"]


def _said(error: Exception, length: int = 200) -> str:
    text = " ".join(str(getattr(error, "reason", "") or error).split())
    return text if len(text) <= length else text[: length - 1] + "…"
