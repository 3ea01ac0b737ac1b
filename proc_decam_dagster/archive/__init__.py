"""The NOIRLab Astro Data Archive and the sites of reference data: search, download, verify. No Butler here."""

from importlib import import_module

_HOMES = {
    "Archive": "client",
    "ArchiveError": "errors",
    "query_exposures": "query",
    "count_exposures": "query",
    "update_exposures": "exposures",
    "SurveyUpdate": "exposures",
    "download": "downloads",
    "plan": "planning",
    "verify": "checks",
    "adopt": "adoption",
    "DownloadReport": "outcomes",
    "Outcome": "outcomes",
    "Ledger": "ledger",
    "downloaded_md5s": "ledger",
    "known_files": "ledger",
    "final_outcome": "readiness",
    "night_files": "readiness",
    "NightFiles": "readiness",
    "folders_of": "ledger",
    "ledger_file_of": "state",
    "state_file_of": "state",
    "shards_for": "footprint",
    "fetch_refcats": "refcats",
    "given_shards": "refcats",
    "make_shards": "shard_maker",
    "fetch_masks": "masks",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    # Imported when used: a face that names one function should not wait for requests and astropy.
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
