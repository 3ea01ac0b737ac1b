"""Masters of another night that stand in for those that a night lacks: found, certified, recorded."""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lsst.daf.butler import CollectionType

from proc_decam_dagster.camera.filters import band_of
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.locks import user_name
from proc_decam_dagster.repository.certify import VALID_BEGIN, VALID_END, certify_refs
from proc_decam_dagster.repository.chains import run_stamp
from proc_decam_dagster.repository.queries import Master, find_certified, master_of, night_frames, source_night
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.calibration_policy import OWN, CalibrationPolicy, days_apart, distance
from proc_decam_dagster.survey.collections import STAMP, calib_collection
from proc_decam_dagster.survey.nights import is_night
from proc_decam_dagster.survey.proc_types import proc_type as proc_type_row

log = logging.getLogger(__name__)

RECORD = "calibration_substitutes.jsonl"
"""Every use of another night's masters, or of the own ones again: when, who, why, which; one JSON object a line."""


@dataclass(frozen=True)
class Candidate:
    """A night that has masters of its own, and which of the wanted ones."""

    night: str
    refs: Mapping[Master, Any]


def calibrations_needed(proc_type: str) -> list[str]:
    """Return the dataset types that must be certified for a night before a proc type can run, in processing order."""
    prefix = calib_collection("{subset}", "")
    inputs = proc_type_row(proc_type).inputs
    # The chain searches the flat first; it is made last.
    return [name.removeprefix(prefix) for name in reversed(inputs) if name.startswith(prefix)]


def provide_calibrations(
    repo: Repository,
    night: str,
    proc_type: str,
    policy: CalibrationPolicy = OWN,
    *,
    where: str = "",
    partial: bool = False,
) -> dict[str, str]:
    """See that a night has the masters that its raws of a proc type need, from other nights where the policy says so.

    Parameters
    ----------
    night, proc_type : `str`
        Whose raws are to be calibrated; they are tagged.
    policy : `CalibrationPolicy`
        Where missing masters come from.
    where : `str`
        Butler query that selects the raws.
    partial : `bool`
        Whether it is enough that some of the raws can be calibrated.

    Returns
    -------
    calibrations : `dict` [`str`, `str`]
        Dataset type → in words, whose masters are used.

    Raises
    ------
    SurveyError
        If masters are missing: which, the nearest nights that have them, and the options that use those.
    """
    require_calibrations(repo, night, proc_type, policy, where=where, partial=partial)
    used = {}
    for dataset in calibrations_needed(proc_type):
        needed = set(night_frames(repo, night, proc_type, by_filter=dataset == datasets.FLAT, where=where))
        lacking = needed - certified_masters(repo, night, dataset).keys()
        for source, refs in _offered(repo, night, dataset, policy, lacking):
            use_masters(repo, night, dataset, source, refs.values(), f"missing; {policy}")
        used[dataset] = calibrations_used(repo, night, dataset, needed)
    return used


def require_calibrations(
    repo: Repository, night: str, proc_type: str, policy: CalibrationPolicy = OWN, *, where: str = "",
    partial: bool = False, exposures: Collection[int] = (), bands: Collection[str] = (),
) -> None:  # fmt: skip
    """See whether a night has the masters that its raws of a proc type need, or the policy has; nothing is changed.

    Parameters
    ----------
    night, proc_type, policy, where, partial
        See `provide_calibrations`.
    exposures : `~collections.abc.Collection` [`int`], optional
        Those to be calibrated, tagged or not; the tagged ones if not given.
    bands : `~collections.abc.Collection` [`str`], optional
        Their bands. As long as none of them is ingested it is not known which masters they need: any will do.

    Raises
    ------
    SurveyError
        If masters are missing: which, the nearest nights that have them, and the options that use those.
    """
    missing: dict[str, set[Master]] = {}
    partly = set()
    for dataset in calibrations_needed(proc_type):
        by_filter = dataset == datasets.FLAT
        needed = set(night_frames(repo, night, proc_type, by_filter=by_filter, where=where, exposures=exposures))
        known = needed or not exposures
        if not known:
            there = [certified_masters(repo, n, dataset) for n in {night, *calibrated_nights(repo, dataset)}]
            needed = {m for masters in there for m in masters if not by_filter or band_of(m.physical_filter) in bands}
        lacking = needed - certified_masters(repo, night, dataset).keys()
        lacking -= {m for _, refs in _offered(repo, night, dataset, policy, lacking) for m in refs}
        if known and lacking and not (partial and lacking < needed) or not known and lacking == needed:
            missing[dataset] = lacking
        if lacking < needed or certified_masters(repo, night, dataset):
            partly.add(dataset)
    if missing:
        raise _missing(repo, night, missing, partly)


def provide_instead(repo: Repository, night: str, dataset: str, policy: CalibrationPolicy) -> str:
    """Take all masters of a dataset type from another night, for one that has no raws to make them of.

    Returns in words whose masters are used.

    Raises
    ------
    SurveyError
        If the policy finds no night.
    """
    if not certified_masters(repo, night, dataset):
        wanted = policy.nights.get(dataset)
        found = [c for c in candidates(repo, night, dataset) if _admitted(c.night, night, wanted, policy)]
        if not found:
            raise SurveyError(f"night {night} has no raws to make a {dataset} of, and no night has one ({policy})",
                              "a night with its own", "name another with --calib-from")  # fmt: skip
        use_masters(repo, night, dataset, found[0].night, found[0].refs.values(), str(policy))
    return calibrations_used(repo, night, dataset)


def certified_masters(repo: Repository, night: str, dataset: str) -> dict[Master, Any]:
    """Return what is certified for a night, its own or another's."""
    return {master_of(ref): ref for ref in find_certified(repo, dataset, calib_collection(night, dataset))}


def own_masters(repo: Repository, night: str, dataset: str) -> dict[Master, Any]:
    """Return what is certified for a night of its own making."""
    return {m: ref for m, ref in certified_masters(repo, night, dataset).items() if source_night(ref) == night}


def calibrated_nights(repo: Repository, dataset: str = "*") -> list[str]:
    """Return the nights that have a calibration collection, sorted; it may be empty."""
    collections = repo.butler().collections.query(
        calib_collection("*", dataset), collection_types={CollectionType.CALIBRATION}
    )
    return sorted(filter(is_night, {c.partition("/")[0] for c in collections}))


def candidates(repo: Repository, night: str, dataset: str, wanted: Collection[Master] | None = None) -> list[Candidate]:
    """Return the other nights that have some of the wanted masters (or any) of their own, the nearest first.

    Of two equally near ones the earlier comes first.
    """
    nights = set(calibrated_nights(repo, dataset)) - {night}
    found = []
    for other in sorted(nights, key=lambda n: (abs(days_apart(night, n)), n)):
        refs = {m: r for m, r in own_masters(repo, other, dataset).items() if wanted is None or m in wanted}
        if refs:
            found.append(Candidate(other, refs))
    return found


def use_masters(repo: Repository, night: str, dataset: str, source: str, refs: Iterable[Any], why: str) -> None:
    """Certify another night's masters (or the night's own again) for a night, and record it."""
    refs = list(refs)
    if not refs:
        return
    collection = calib_collection(night, dataset)
    with repo.lock(collection, wait_seconds=60):
        certify_refs(repo.butler(writeable=True), collection, refs, VALID_BEGIN, VALID_END)
    describe_collection(repo, night, dataset)
    record_use(repo, night, dataset, source, refs, why)
    log.info("night %s: %d %s taken from night %s (%s)", night, len(refs), dataset, source, why)


def record_use(repo: Repository, night: str, dataset: str, source: str, refs: Iterable[Any], why: str) -> None:
    """Record that a night is calibrated with certain masters from now on: another night's, or its own again."""
    refs = list(refs)
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "who": user_name(), "why": why, "night": night,
        "dataset": dataset, "from": source, "days": days_apart(night, source),
        "masters": [master_of(ref).data_id for ref in refs], "runs": sorted({ref.run for ref in refs}),
    }  # fmt: skip
    with repo.lock("calibration records", wait_seconds=60), (repo.state_dir / RECORD).open("a") as file:
        file.write(json.dumps(entry) + "\n")


def in_use_since(repo: Repository, night: str, dataset: str) -> dict[Master, str]:
    """Return since when a night's certified masters are used, as names of RUNs tell a time.

    That is when they were made, or when they were taken in the place of others, though they may be older than those.
    """
    certified = certified_masters(repo, night, dataset)
    since = {master: run_stamp(ref.run) for master, ref in certified.items()}
    for entry in substitutes_recorded(repo):
        if (entry["night"], entry["dataset"]) == (night, dataset):
            stamp = datetime.fromisoformat(entry["when"]).astimezone(UTC).strftime(STAMP)
            for master in certified.keys() & {Master(**data_id) for data_id in entry["masters"]}:
                if certified[master].run in entry["runs"]:
                    since[master] = max(since[master], stamp)
    return since


def substitutes_recorded(repo: Repository) -> list[dict[str, Any]]:
    """Return every use of another night's masters, in the order in which they were made."""
    path = repo.state_dir / RECORD
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def calibrations_used(repo: Repository, night: str, dataset: str, needed: Collection[Master] | None = None) -> str:
    """Return in words whose masters a night is calibrated with, such as ``20190402 (1 day later)`` or ``own``.

    It is read off the certified datasets themselves: each one's RUN names the night that made it.
    """
    sources: dict[str, list[Master]] = {}
    for master, ref in sorted(certified_masters(repo, night, dataset).items()):
        if needed is None or master in needed:
            sources.setdefault(source_night(ref), []).append(master)
    texts = []
    for source, masters in sorted(sources.items(), key=lambda item: -len(item[1])):
        if source == night:
            texts.insert(0, "own")
        else:
            text = f"{source} ({distance(night, source)})"
            texts.append(text if len(sources) == 1 else f"{text} for {_named(masters)}")
    return ", ".join(texts) or "none"


def describe_collection(repo: Repository, night: str, dataset: str) -> None:
    """Write whose masters a night's calibration collection holds into its documentation."""
    collection = calib_collection(night, dataset)
    text = f"{dataset} of night {night}: {calibrations_used(repo, night, dataset)}"
    if repo.butler().registry.getCollectionDocumentation(collection) != text:
        repo.butler(writeable=True).registry.setCollectionDocumentation(collection, text)


def _offered(
    repo: Repository, night: str, dataset: str, policy: CalibrationPolicy, lacking: Collection[Master]
) -> Iterator[tuple[str, dict[Master, Any]]]:
    """Yield the nights, and what they have of the masters that a night lacks, which the policy admits."""
    left = set(lacking)
    if not left or not policy.provides(dataset):
        return
    wanted = policy.nights.get(dataset)
    for candidate in candidates(repo, night, dataset, lacking):
        refs = {m: ref for m, ref in candidate.refs.items() if m in left}
        if refs and _admitted(candidate.night, night, wanted, policy):
            yield candidate.night, refs
            left -= refs.keys()


def _admitted(other: str, night: str, wanted: str | None, policy: CalibrationPolicy) -> bool:
    if wanted is not None:
        return other == wanted
    return abs(days_apart(night, other)) <= policy.within_days


def _missing(
    repo: Repository, night: str, missing: Mapping[str, Collection[Master]], partly: Collection[str]
) -> SurveyError:
    """Return the error that names missing masters, the nearest nights that have them, and what to do.

    Of the dataset types in ``partly`` some masters are there.
    """
    advice, options, days = [], [], 0
    for dataset, lacking in missing.items():
        near = _nearest_each_way(night, candidates(repo, night, dataset, lacking), len(lacking))
        told = [
            f"{c.night} ({distance(night, c.night)}"
            + (f", {len(c.refs)} of {len(lacking)})" if len(c.refs) < len(lacking) else ")")
            for c in near
        ]
        advice.append(f"{dataset}: {'nearest usable ' + ' and '.join(told) if told else 'no night has one'}")
        if near:
            best = min(near, key=lambda c: (-len(c.refs), abs(days_apart(night, c.night))))
            options.append(f"--calib-from {dataset}={best.night}")
            days = max(days, abs(days_apart(night, best.night)))
    commands = " and ".join(f"`proc-decam night {repo.root} {night} --proc-type {name}`" for name in missing)
    fix = f"run {commands} first ({'; '.join(advice)})"
    if options:
        fix += f", or take another night's: {' '.join(options)}, or --calib-policy nearest --calib-within {days}"
    lacks = " and no ".join(
        name + (f" of {_named(masters)}" if name in partly else "") for name, masters in missing.items()
    )
    return SurveyError(f"night {night} has no certified {lacks}", "what its raws are calibrated with", fix)


def _nearest_each_way(night: str, found: list[Candidate], wanted: int) -> list[Candidate]:
    """Return the nearest candidate before and after a night; one that has all that is wanted goes before a nearer."""
    near = []
    for sign in (-1, 1):
        side = [c for c in found if days_apart(night, c.night) * sign > 0]
        near += [next((c for c in side if len(c.refs) == wanted), None) or side[0]] if side else []
    return near


def _named(masters: Collection[Master]) -> str:
    """Return detectors, by filter where there is one, in a few words."""
    by_filter: dict[str, list[int]] = {}
    for detector, name in sorted(masters):
        by_filter.setdefault(name, []).append(detector)
    texts = []
    for name, detectors in by_filter.items():
        which = f"detector{'s' if len(detectors) > 1 else ''} {', '.join(map(str, detectors[:10]))}"
        if len(detectors) > 10:
            which = f"{len(detectors)} detectors"
        texts.append(which + (f" in {name.split()[0]}" if name else ""))
    return ", ".join(texts)
