"""What the archive's advanced search does with a table: filters, outfields, order, pages, and its error answers."""

import re
from collections.abc import Iterable, Mapping

FILE_FIELDS = {
    "md5sum": "str", "archive_filename": "str", "original_filename": "str", "instrument": "category",
    "telescope": "category", "proc_type": "category", "prod_type": "category", "obs_type": "category",
    "obs_mode": "category", "survey": "category", "site": "category", "proposal": "category", "ifilter": "str",
    "caldat": "datetime64", "dateobs_min": "datetime64", "dateobs_max": "datetime64", "dateobs_center": "datetime64",
    "release_date": "datetime64", "updated": "datetime64", "exposure": "np.float64", "depth": "np.float64",
    "seeing": "np.float64", "ra_center": "np.float64", "ra_min": "np.float64", "ra_max": "np.float64",
    "dec_center": "np.float64", "dec_min": "np.float64", "dec_max": "np.float64", "filesize": "np.int64", "url": "str",
}  # fmt: skip
"""Core fields of a file, and their types as HEADER names them."""
AUXILIARY_FIELDS = ("EXPNUM", "FILTER", "RA", "DEC", "OBJECT", "PROPID", "AIRMASS", "OBSID", "EXPTIME")
"""Header keywords that a search may ask for when it names the instrument; the columns of a served table join them."""
INSTRUMENTS = ("decam", "mosaic3", "90prime", "newfirm", "goodman")
_MODES = tuple(i + m for m in ("exact", "contains", "startswith", "endswith", "regex") for i in ("", "i"))
_NUMBERS = ("np.float64", "np.int64")
DEFAULT_LIMIT, DEFAULT_SORT = 1000, "md5sum"


class QueryError(Exception):
    """An error that the archive answers with.

    Parameters
    ----------
    message, code : `str`
        ``errorMessage`` and ``errorCode`` of the answer.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message, self.code = message, code


def bare(field: str) -> str:
    """Return a field without the prefix that the API puts before it in some answers."""
    return field.partition(":")[2] if field.startswith(("file:", "hdu:")) else field


def find(rows: list[dict], payload: Mapping, parameters: Mapping[str, str], *, prefixed: bool = False) -> list[dict]:
    """Return the answer to ``adv_search/find``: a head, then the rows (or, with ``count=Y``, their number).

    Parameters
    ----------
    rows : `list` [`dict`]
        The archive's files.
    payload : mapping
        The posted JSON: ``outfields`` and ``search``.
    parameters : mapping
        The address's parameters: ``rectype``, ``limit``, ``offset``, ``sort``, ``count``.
    prefixed : `bool`, optional
        Whether keys are written ``file:md5sum``, as by newer versions of the API.

    Raises
    ------
    QueryError
        Raised for unknown fields (``BADFIELD``), a missing or unknown instrument (``MISINSTR``), or bad values.
    """
    if not isinstance(payload, Mapping) or not isinstance(payload.get("search", []), list):
        raise QueryError("The JSON payload must hold 'outfields' and 'search'", "BADPAYLOAD")
    known = {*FILE_FIELDS, *AUXILIARY_FIELDS, *(key for row in rows[:1] for key in row)}
    outfields = [bare(f) for f in payload.get("outfields") or ["md5sum"]]
    search = payload.get("search", [])
    for clause in search:
        if not isinstance(clause, list) or len(clause) < 2:
            raise QueryError(f"Search clause {clause!r} is not [field, value, …]", "BADSEARCH")
    names = outfields + [bare(str(clause[0])) for clause in search]
    unknown = sorted({n for n in names if n not in known})
    if unknown:
        raise QueryError(f"Unknown field(s): {', '.join(unknown)}", "BADFIELD")
    instruments = [str(v) for clause in search if bare(str(clause[0])) == "instrument" for v in clause[1:]]
    strange = [v for v in instruments if v not in INSTRUMENTS]
    if strange or (not instruments and any(n not in FILE_FIELDS for n in names)):
        what = f"Unknown instrument: {', '.join(strange)}" if strange else "Auxiliary fields need an instrument"
        raise QueryError(f"{what}. Known are {', '.join(INSTRUMENTS)}", "MISINSTR")
    limit, offset = _number(parameters, "limit", DEFAULT_LIMIT), _number(parameters, "offset", 0)
    found = [row for row in rows if all(_matches(row, clause) for clause in search)]
    head = {
        "META": {"endpoint": "adv_search/find"},
        "PARAMETERS": {
            "rectype": parameters.get("rectype", "file"), "limit": limit, "offset": offset,
            "sort": parameters.get("sort", DEFAULT_SORT), "count": parameters.get("count", "N"),
            "default_limit": DEFAULT_LIMIT, "default_offset": 0, "default_sort": DEFAULT_SORT, "oldest": None,
            "previd": None, "last": min(offset + (limit or len(found)), len(found)), "json_payload": dict(payload),
        },
        "HEADER": {_key(f, prefixed): FILE_FIELDS.get(f, "str") for f in outfields},
    }  # fmt: skip
    if parameters.get("count", "N").upper() == "Y":
        return [head, {"count": len(found)}]
    found = _sorted(found, parameters.get("sort") or DEFAULT_SORT, known)
    page = found[offset : offset + limit] if limit else found[offset:]
    return [head] + [{_key(f, prefixed): row.get(f) for f in outfields} for row in page]


def _key(field: str, prefixed: bool) -> str:
    return f"file:{field}" if prefixed else field


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    try:
        value = int(parameters.get(name, default))
    except ValueError:
        value = -1
    if value < 0:
        raise QueryError(f"{name}={parameters[name]!r} is not a whole number", "BADPARAMETER")
    return value


def _sorted(rows: list[dict], order: str, known: Iterable[str]) -> list[dict]:
    for field in reversed([bare(f.strip()) for f in order.split(",")]):
        name, descending = field.lstrip("-"), field.startswith("-")
        if name not in known:
            raise QueryError(f"Unknown field(s): {name}", "BADFIELD")
        rows = sorted(rows, key=lambda row, n=name: (row.get(n) is not None, row.get(n) or 0 if _is_number(row.get(n))
                                                     else str(row.get(n) or "")), reverse=descending)  # fmt: skip
    return rows


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _matches(row: dict, clause: list) -> bool:
    """Whether a row satisfies one clause: values of a category, an inclusive range, or a text and its mode."""
    field, *values = clause
    field = bare(str(field))
    value = row.get(field)
    if len(values) > 1 and values[-1] in _MODES:
        return value is not None and any(_text_matches(str(value), str(v), values[-1]) for v in values[:-1])
    if value is None:
        return False
    kind = FILE_FIELDS.get(field, "str")
    if len(values) == 2 and (kind in _NUMBERS or (kind == "str" and _is_number(value))):
        try:
            return float(values[0]) <= float(value) <= float(values[1])
        except (TypeError, ValueError):
            raise QueryError(f"{clause!r} is not a range of numbers", "BADSEARCH") from None
    if len(values) == 2 and kind == "datetime64":
        low, high = str(values[0]), str(values[1])
        # A date as the upper limit holds its whole day.
        return low <= str(value) and str(value)[: len(high)] <= high
    if _is_number(value):
        return any(str(v) == str(value) or _equal(v, value) for v in values)
    return str(value) in [str(v) for v in values]


def _equal(text, number) -> bool:
    try:
        return float(text) == float(number)
    except (TypeError, ValueError):
        return False


def _text_matches(value: str, wanted: str, mode: str) -> bool:
    if mode.startswith("i"):
        value, wanted, mode = value.lower(), wanted.lower(), mode[1:]
    match mode:
        case "exact":
            return value == wanted
        case "contains":
            return wanted in value
        case "startswith":
            return value.startswith(wanted)
        case "endswith":
            return value.endswith(wanted)
    try:
        return re.search(wanted, value) is not None
    except re.error as error:
        raise QueryError(f"{wanted!r} is no regular expression ({error})", "BADSEARCH") from None
