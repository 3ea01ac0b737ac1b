"""Calibration overrides: a list that people keep of nights and detectors that are calibrated with another night."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import yaml

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.locks import user_name
from proc_decam_dagster.repository.certify import certify_calibrations, decertify
from proc_decam_dagster.repository.chains import update_chain
from proc_decam_dagster.repository.presence import has_collection
from proc_decam_dagster.repository.queries import Master, night_frames, source_night
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.repository.settings import write_whole
from proc_decam_dagster.repository.substitutes import (
    certified_masters,
    describe_collection,
    own_masters,
    record_use,
    use_masters,
)
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.calibration_policy import CERTIFIED, require_night
from proc_decam_dagster.survey.collections import calib_collection
from proc_decam_dagster.survey.proc_types import PROC_TYPES

FILE = "calibration_overrides.yaml"
HEADER = """\
# Nights and detectors that are calibrated with the masters of another night, and why. A later entry goes before an
# earlier one, `from: own` takes one back, no detectors means all: nothing need be deleted, so that the list tells what
# was decided when and by whom. After an edit by hand: `proc-decam calibrations apply REPO`.
"""
OWN = "own"


@dataclass(frozen=True)
class Override:
    """One decision of the list.

    Attributes
    ----------
    night, dataset : `str`
        Whose masters are replaced.
    detectors : `tuple` [`int`]
        Of which detectors; empty for all.
    source : `str`
        The night whose masters are used, or ``own``.
    why, who, when : `str`
        The reason; who decided, and when (ISO 8601 UTC).
    """

    night: str
    dataset: str
    detectors: tuple[int, ...]
    source: str
    why: str = ""
    who: str = ""
    when: str = ""


_KEYS = {("from" if f.name == "source" else f.name): f.name for f in fields(Override)}


def read_overrides(repo: Repository) -> list[Override]:
    """Return the list, as it stands on disk.

    Raises
    ------
    SurveyError
        If an edit by hand made an entry that is not understood; the message says which.
    """
    path = repo.state_dir / FILE
    if not path.is_file():
        return []
    try:
        entries = yaml.safe_load(path.read_text()) or []
    except yaml.YAMLError as error:
        raise SurveyError(f"{path} cannot be read ({' '.join(str(error).split())})", "a YAML list") from None
    if not isinstance(entries, list):
        raise SurveyError(f"{path} holds no list", "a YAML list of entries")
    return [_checked(entry, f"entry {number} of {path}") for number, entry in enumerate(entries, 1)]


def add_override(
    repo: Repository, night: str, kinds: str | Iterable[str], source: str, detectors: tuple[int, ...] = (),
    why: str = "",
) -> list[str]:  # fmt: skip
    """Add a decision about ``bias``, ``flat`` or both to the list, and carry it out; return what was done, a line each.

    Raises
    ------
    SurveyError
        If there is no such type, or the other night has no such masters of its own: then nothing is added.
    """
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"night": night, "detectors": list(detectors), "from": source, "why": why, "who": user_name(), "when": now}
    overrides = [_checked(entry | {"dataset": kind}, "the override") for kind in kinds]
    for override in overrides if source != OWN else ():
        _require_masters(repo, override)
    with repo.lock("calibration overrides", wait_seconds=60):
        entries = [_as_entry(o) for o in (*read_overrides(repo), *overrides)]
        write_whole(repo.state_dir / FILE, HEADER + yaml.safe_dump(entries, sort_keys=False))
    return [line for kind in kinds for line in apply_overrides(repo, night, kind, take_back=True)]


def apply_overrides(repo: Repository, night: str, dataset: str, *, take_back: bool = False) -> list[str]:
    """See that what is certified for a night is what the list says; return what was changed, a line each.

    Detectors that no entry is about are left as they are. So are those of a ``from: own``, unless ``take_back`` is set:
    it ends an override, and does not keep a policy on missing calibrations from taking another night's later.
    """
    overrides = [o for o in read_overrides(repo) if (o.night, o.dataset) == (night, dataset)]
    wanted = _by_detector(overrides)
    done = []
    for source in sorted(set(wanted.values()) - {OWN}):
        why = ": ".join(filter(None, ("override", [o.why for o in overrides if o.source == source][-1])))
        have = certified_masters(repo, night, dataset)
        refs = {
            m: r for m, r in own_masters(repo, source, dataset).items()
            if wanted.get(m.detector, wanted.get(None)) == source and (m not in have or have[m].id != r.id)
        }  # fmt: skip
        if refs:
            use_masters(repo, night, dataset, source, refs.values(), why)
            done.append(f"night {night}: {dataset} of detectors {_list(refs)} from night {source}")
    if not take_back:
        return done
    back = {
        m for m, ref in certified_masters(repo, night, dataset).items()
        if wanted.get(m.detector, wanted.get(None)) == OWN and source_night(ref) != night
    }  # fmt: skip
    return done + (_take_back(repo, night, dataset, back) if back else [])


def overridden(repo: Repository, night: str, dataset: str, masters: Iterable[Master]) -> set[Master]:
    """Return those of some masters of a night that the list has come from another night."""
    wanted = _by_detector([o for o in read_overrides(repo) if (o.night, o.dataset) == (night, dataset)])
    return {m for m in masters if wanted.get(m.detector, wanted.get(None, OWN)) != OWN}


def approved(repo: Repository, night: str, dataset: str, masters: Iterable[Master]) -> set[Master]:
    """Return those of some masters of a night that the list says are to be the night's own, whatever their levels."""
    wanted = _by_detector([o for o in read_overrides(repo) if (o.night, o.dataset) == (night, dataset)])
    return {m for m in masters if wanted.get(m.detector, wanted.get(None)) == OWN}


def _take_back(repo: Repository, night: str, dataset: str, masters: set[Master]) -> list[str]:
    """Decertify substitutes, and certify the night's own masters where they are complete."""
    decertify(repo, calib_collection(night, dataset), dataset, data_ids=[m.data_id for m in masters])
    row = next(row for row in PROC_TYPES.values() if row.certifies == dataset)
    certified: list[dict[str, Any]] = []
    if has_collection(repo.butler(), row.chain(night)):
        frames = night_frames(repo, night, row.name, by_filter=dataset == datasets.FLAT)
        update_chain(repo, row.name, night)
        expected = {m: frames[m] for m in masters if m in frames}
        certified = certify_calibrations(
            repo, row.name, night, expected=expected, partial=True, trusted=masters
        ).certified
    own = [ref for master, ref in own_masters(repo, night, dataset).items() if master in masters]
    if own:  # what was made with the other night's is stale now, though these are no newer
        record_use(repo, night, dataset, night, own, "override taken back")
    describe_collection(repo, night, dataset)
    return [
        f"night {night}: {dataset} of detectors {_list(masters)} no longer from another night, "
        f"{len(certified)} of its own certified"
    ]


def _by_detector(overrides: list[Override]) -> dict[int | None, str]:
    """Return detector → night, the later entry winning; `None` stands for the detectors that are not named."""
    wanted: dict[int | None, str] = {}
    for override in overrides:
        if not override.detectors:
            wanted = {None: override.source}
        wanted |= dict.fromkeys(override.detectors, override.source)
    return wanted


def _require_masters(repo: Repository, override: Override) -> None:
    there = {m.detector for m in own_masters(repo, override.source, override.dataset)}
    absent = sorted(set(override.detectors) - there)
    if absent or not there:
        which = f" of detectors {', '.join(map(str, absent))}" if there else ""
        raise SurveyError(
            f"night {override.source} has no certified {override.dataset} of its own{which}",
            "a night that has", f"`proc-decam calibrations show {repo.root}` lists them",
        )  # fmt: skip


def _checked(entry: Any, where: str) -> Override:
    """Return an entry of the list, its values checked."""
    if not isinstance(entry, dict) or set(entry) - set(_KEYS) or not {"night", "dataset", "from"} <= set(entry):
        raise SurveyError(f"{where} is {entry!r}", f"a mapping of {', '.join(_KEYS)}", "correct it")
    values = {_KEYS[key]: value for key, value in entry.items()}
    given = values.get("detectors") or ()
    if not isinstance(given, list | tuple) or not all(isinstance(d, int) for d in given):
        raise SurveyError(f"{where} has detectors {given!r}", "a list of numbers, such as [31]", "correct it")
    values["detectors"] = tuple(given)
    texts = {key: str(value) for key, value in values.items() if key != "detectors"}
    require_night(texts["night"])
    if texts["source"] != OWN:
        require_night(texts["source"])
    if texts["dataset"] not in CERTIFIED:
        raise SurveyError(f"{where} is about {texts['dataset']!r}", f"one of {', '.join(CERTIFIED)}", "correct it")
    if texts["source"] == texts["night"]:
        raise SurveyError(f"{where} takes the {texts['dataset']} of {texts['night']} from itself", "another night")
    return Override(**texts, detectors=values["detectors"])


def _as_entry(override: Override) -> dict[str, Any]:
    values = asdict(override) | {"detectors": list(override.detectors)}
    return {key: values[name] for key, name in _KEYS.items()}


def _list(masters: Iterable[Master]) -> str:
    return ", ".join(str(d) for d in sorted({m.detector for m in masters}))
