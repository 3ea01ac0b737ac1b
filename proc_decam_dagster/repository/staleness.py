"""What is stale: products older than what they were made from, told from the RUNs that the chains' searches find.

A RUN's name ends with the time when it was made. A product is stale if what it is made from has been made since: a
calibrated exposure after its night got another master, a template after a late night, a difference after both.
"""

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.association import coadd_record
from proc_decam_dagster.repository.certify import outdated_masters
from proc_decam_dagster.repository.chains import processing_chains, run_stamp
from proc_decam_dagster.repository.exclusions import exclusions, exposure_nights
from proc_decam_dagster.repository.queries import Master, find_made, find_refs
from proc_decam_dagster.repository.substitutes import certified_masters, in_use_since
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.calibration_policy import CERTIFIED
from proc_decam_dagster.survey.collections import Chain, coadd_inputs_collection, parse_chain
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository

INJECTED_DIFFERENCE = datasets.INJECTED + datasets.named(datasets.DIFFERENCE)
_AFTER_FRAMES = [step for step in PROC_TYPES["drp"].steps if step not in PROC_TYPES["drp"].frame_steps]
"""The steps of drp that take calibrated exposures together."""


@dataclass
class Stale:
    """Products of one chain that are stale for one reason.

    Attributes
    ----------
    chain, dataset : `str`
        The chain, and the type of the products.
    data_ids : `list` [`dict`]
        Which, without the instrument and the skymap.
    because : `str`
        What has changed since they were made.
    command : `str`
        What makes them anew.
    """

    chain: str
    dataset: str
    data_ids: list[dict[str, Any]]
    because: str
    command: str


def find_stale(repo: "Repository", pattern: str = "*") -> list[Stale]:
    """Return what is stale in the chains that a shell-like pattern matches, in the order in which to mend it.

    Raises
    ------
    SurveyError
        If no chain matches.
    """
    chains = [parse_chain(c) for c in processing_chains(repo.butler()) if fnmatch.fnmatchcase(c, pattern)]
    if not chains:
        raise SurveyError(f"no processing chain matches {pattern!r}", fix=f"`proc-decam status {repo.root}` shows them")
    found: list[Stale] = []
    for name in PROC_TYPES:
        for chain in sorted((c for c in chains if c.proc_type == name), key=str):
            found += _LOOK[name](repo, chain)
    return found


def _masters(repo: "Repository", chain: Chain) -> Iterable[Stale]:
    """Look at master calibrations: frames that came late or are left out by now, a bias that is newer than the flat."""
    row = PROC_TYPES[chain.proc_type]
    again = f"proc-decam night {repo.root} {chain.subset} --proc-type {row.name}"
    outdated = outdated_masters(repo, row.name, chain.subset)
    for because in sorted(set(outdated.values())):
        yield Stale(str(chain), row.certifies, [m.data_id for m in outdated if outdated[m] == because], because, again)
    if row.certifies == datasets.FLAT:
        flats = {
            m: r
            for m, r in certified_masters(repo, chain.subset, datasets.FLAT).items()
            if r.run.startswith(f"{chain}/")
        }
        yield from _newer_masters(repo, chain, datasets.FLAT, {m: [r] for m, r in flats.items()}, [datasets.BIAS])


def _calibrated(repo: "Repository", chain: Chain) -> Iterable[Stale]:
    """Look at a night's calibrated exposures and warps."""
    found = find_refs(repo, datasets.CALEXP, str(chain))
    calexps = _wanted(repo, chain, found)
    by_master: dict[Master, list[Any]] = {}
    for ref in calexps:
        by_master.setdefault(Master(ref.dataId["detector"], ref.dataId["physical_filter"]), []).append(ref)
    yield from _newer_masters(repo, chain, datasets.CALEXP, by_master, list(CERTIFIED))
    yield from _masked_since(repo, chain, calexps)
    since: dict[int, str] = {}
    listed = exclusions(repo)
    for ref in found:
        visit, entry = ref.dataId["visit"], listed.entry(ref.dataId["visit"], ref.dataId["detector"], chain.subset)
        if entry and entry.detectors:  # a visit that is left out as a whole gets no warps: its coadds leave it out
            since[visit] = max(since.get(visit, ""), entry.stamp)
    newest, made = (
        _newest(calexps, "visit"),
        _newest(find_refs(repo, f"{datasets.WARP_TASK}_metadata", str(chain)), "visit"),
    )
    by_calexp, by_list = [], []
    for warp in find_made(repo, datasets.named(datasets.DIRECT_WARP), datasets.WARP_TASK, str(chain)):
        visit, stamp = warp.dataId["visit"], run_stamp(warp.run)
        if visit in since:  # a patch that only an excluded CCD reaches is not made again
            stamp = max(stamp, made.get(visit, ""))
        if stamp < newest.get(visit, ""):
            by_calexp.append(warp)
        elif stamp < since.get(visit, ""):
            by_list.append(warp)
    yield from _of_visits(repo, chain, calexps, by_calexp, "their visits were calibrated anew", _AFTER_FRAMES)
    because = "the list of exclusions leaves out CCDs of their visits since"
    yield from _of_visits(repo, chain, calexps, by_list, because, _AFTER_FRAMES)


def _newer_masters(
    repo: "Repository", chain: Chain, dataset: str, products: Mapping[Master, list[Any]], masters: list[str]
) -> Iterable[Stale]:
    """Find the products that are older than a master that they are made with, or than the choice of that master."""
    for kind in masters:
        since = in_use_since(repo, chain.subset, kind)
        old = [
            ref for master, refs in products.items()
            for ref in refs if run_stamp(ref.run) < (since.get(master) or since.get(Master(master.detector), ""))
        ]  # fmt: skip
        because = f"another {kind} is certified since"
        if dataset == datasets.CALEXP:
            yield from _of_visits(repo, chain, [r for refs in products.values() for r in refs], old, because)
        elif old:  # of all detectors: they have their illumination in common
            yield _stale(repo, chain, dataset, old, because)


def _masked_since(repo: "Repository", chain: Chain, calexps: list[Any]) -> Iterable[Stale]:
    """Find calibrated exposures that the list of exclusions has come to mask an amplifier of."""
    for entry in exclusions(repo).amplifiers():
        if entry.of_night(chain.subset):
            old = [r for r in calexps if r.dataId["detector"] in entry.detectors and run_stamp(r.run) < entry.stamp]
            yield from _of_visits(repo, chain, calexps, old, f"amplifier {entry.amplifier} is masked since")


def _template(repo: "Repository", chain: Chain) -> Iterable[Stale]:
    """Look at a coadd: warps that came or went since, warps that are newer, visits that are left out since."""
    recorded = coadd_record(repo, chain.coadd_subset, chain.template_type)
    nights, where, coadd_name = (recorded.get(k) for k in ("nights", "where", "coadd_name"))
    name = datasets.named(datasets.DIRECT_WARP, coadd_name or datasets.COADD_NAME)
    inputs = set(find_refs(repo, name, coadd_inputs_collection(chain.coadd_subset, chain.template_type)))
    now = {
        ref for night in nights or ()
        for ref in find_made(repo, name, datasets.WARP_TASK, PROC_TYPES["drp"].chain(night))
    }  # fmt: skip
    coadds = find_refs(repo, datasets.named(datasets.COADD), str(chain))
    again = (
        f'proc-decam coadd {repo.root} "{"|".join(nights or ())}" --coadd-subset {chain.coadd_subset} '
        f"--template-type {chain.template_type} "
        + (f"--warp-coadd-name {coadd_name} " if coadd_name not in (None, datasets.COADD_NAME) else "")
        + (f'--where "{where}" ' if where else "") + "--no-skip-existing"
    )  # fmt: skip
    # What is older than the coadd and not in it was left out of it by choice: --where, --max-warps.
    newest: dict[Any, str] = {}
    for ref in now | inputs:
        newest[_place(ref)] = max(newest.get(_place(ref), ""), run_stamp(ref.run))
    gone = {_place(ref) for ref in inputs - now}
    for because, old in (
        ("warps were made since", [r for r in coadds if run_stamp(r.run) < newest.get(_place(r), "")]),
        ("some of its warps are no more", [r for r in coadds if _place(r) in gone]),
    ):
        if old:
            yield Stale(str(chain), datasets.named(datasets.COADD), _ids(old), because, again)
    listed = exclusions(repo)
    if not listed.current:
        return
    night_of, since = exposure_nights(repo), {}
    for ref in inputs:
        entry = listed.entry(ref.dataId["visit"], None, night_of.get(ref.dataId["visit"], ""))
        if entry:
            since[_place(ref)] = max(since.get(_place(ref), ""), entry.stamp)
    old = [ref for ref in coadds if run_stamp(ref.run) < since.get(_place(ref), "")]
    if old:
        because = "the list of exclusions leaves out some of its visits since"
        yield Stale(str(chain), datasets.named(datasets.COADD), _ids(old), because, again)


def _difference(repo: "Repository", chain: Chain) -> Iterable[Stale]:
    """Look at a night's differences: calibrated exposures and templates that are newer."""
    differences = _wanted(repo, chain, find_refs(repo, datasets.named(datasets.DIFFERENCE), str(chain)))
    if not differences:
        return
    drp = PROC_TYPES["drp"].chain(chain.subset)
    calexps = {_frame(r): run_stamp(r.run) for r in find_refs(repo, datasets.CALEXP, drp)}
    yield from _of_visits(
        repo, chain, differences, [r for r in differences if run_stamp(r.run) < calexps.get(_frame(r), "")],
        "their visits were calibrated anew",
    )  # fmt: skip
    template = PROC_TYPES["coadd"].chain("", chain.coadd_subset, chain.template_type)
    newest = _newest(find_refs(repo, datasets.named(datasets.COADD), template), "band")
    yield from _of_visits(
        repo, chain, differences, [r for r in differences if run_stamp(r.run) < newest.get(r.dataId["band"], "")],
        f"the template {template} is newer",
    )  # fmt: skip


_LOOK: dict[str, Callable[["Repository", Chain], Iterable[Stale]]] = {
    "bias": _masters, "flat": _masters, "drp": _calibrated, "coadd": _template, "diff_drp": _difference,
}  # fmt: skip


def _of_visits(
    repo: "Repository", chain: Chain, every: list[Any], old: list[Any], because: str, steps: Iterable[str] = ()
) -> Iterable[Stale]:
    """Return the entry of the stale ones among some products of visits, if there are any.

    Whole visits are made anew: tables and figures of a visit would else be made of those of its CCDs alone.
    """
    if old:
        visits = {ref.dataId["visit"] for ref in old}
        where = f"visit IN ({', '.join(map(str, sorted(visits)))})"
        if visits == {ref.dataId["visit"] for ref in every}:
            where = ""
        yield _stale(repo, chain, old[0].datasetType.name, old, because, where, steps)


def _stale(
    repo: "Repository", chain: Chain, dataset: str, refs: list[Any], because: str, where: str = "",
    steps: Iterable[str] = (),
) -> Stale:  # fmt: skip
    """Return an entry whose command runs steps of the chain's pipeline (all if none is named) on what is stale.

    The steps that take a night's visits together are run without the query.
    """
    row = PROC_TYPES[chain.proc_type]
    words = ["proc-decam pipeline", str(repo.root), chain.proc_type, chain.subset or chain.coadd_subset]
    if chain.coadd_subset:
        words += ["--coadd-subset", chain.coadd_subset, "--template-type", chain.template_type]
    if find_refs(repo, INJECTED_DIFFERENCE, str(chain)):
        words += ["--science both"]
    commands = []
    for whole, group in groupby(steps or row.steps, key=lambda step: bool(where) and step in row.whole_steps):
        chosen = list(group)
        only = [] if chosen == list(row.steps) else ["--steps", ",".join(s.removeprefix("step") for s in chosen)]
        query = [f'--where "{where}"'] if where and not whole else []
        commands.append(" ".join([*words, *only, *query, "--no-skip-existing"]))
    return Stale(str(chain), dataset, _ids(refs), because, " && ".join(commands))


def _wanted(repo: "Repository", chain: Chain, refs: Iterable[Any]) -> list[Any]:
    """Return the frames of a night that the list of exclusions does not leave out: those alone can be made anew."""
    listed = exclusions(repo)
    return [r for r in refs if not listed.entry(r.dataId["visit"], r.dataId["detector"], chain.subset)]


def _ids(refs: Iterable[Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.dataId.required.items() if k not in ("instrument", "skymap")} for r in refs]


def _newest(refs: Iterable[Any], dimension: str) -> dict[Any, str]:
    """Return the newest stamp of datasets by a dimension."""
    newest: dict[Any, str] = {}
    for ref in refs:
        newest[ref.dataId[dimension]] = max(newest.get(ref.dataId[dimension], ""), run_stamp(ref.run))
    return newest


def _place(ref: Any) -> tuple[int, int, str]:
    return ref.dataId["tract"], ref.dataId["patch"], ref.dataId["band"]


def _frame(ref: Any) -> tuple[int, int]:
    return ref.dataId["visit"], ref.dataId["detector"]
