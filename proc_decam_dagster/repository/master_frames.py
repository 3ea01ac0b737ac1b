"""Which exposures master calibrations were combined from, against those that their nights have.

What a master says of itself decides; one that says nothing is taken to hold the frames that were processed before it.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.repository.chains import run_stamp
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.presence import has_dataset_type
from proc_decam_dagster.repository.queries import Master, master_of, night_frames
from proc_decam_dagster.repository.settings import write_whole
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import ProcType

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository

ISR_TASK = {datasets.BIAS: "cpBiasIsr", datasets.FLAT: "cpFlatIsr"}
"""The task that processes the frames of a master."""


@dataclass
class Frames:
    """The frames of a master.

    Attributes
    ----------
    number : `int`
        How many exposures it was made from, those that its combination has judged unfit included.
    wanted : `int`
        How many are expected.
    missing : `list` [`int`]
        Expected exposures that it was made without.
    late : `list` [`int`]
        Those of them that are processed by now: to combine again mends it.
    foreign : `list` [`int`]
        Exposures that it was made from and that its night does not have any more.
    """

    number: int
    wanted: int
    missing: list[int]
    late: list[int]
    foreign: list[int]


def frames_of_masters(
    repo: "Repository", row: ProcType, night: str, masters: Mapping[Master, Any],
    expected: Mapping[Master, Collection[int]],
) -> dict[Master, Frames]:  # fmt: skip
    """Compare what masters (`Master` → ref) were made from with the exposures that are expected of each."""
    by_filter = row.certifies == datasets.FLAT
    own: dict[Master, set[int]] | None = None
    processed = _processed(repo, row, night, by_filter)
    recorded = _recorded(repo, row.chain(night), masters.values())
    found = {}
    for master, ref in masters.items():
        wanted = set(expected.get(master, ()))
        stamps = wanted if processed is None else processed.get(master, {})
        before = {e for e in stamps if processed is None or stamps[e] <= run_stamp(ref.run)}
        used, unfit = map(set, recorded.get(ref.id.hex, (before, ())))
        considered = used | before & unfit  # what could not be processed then was not judged
        foreign = used - wanted if ref.id.hex in recorded else set()
        if foreign:  # `expected` may be a part of what the night has
            own = night_frames(repo, night, row.name, by_filter=by_filter) if own is None else own
            foreign -= own.get(master, foreign)
        missing = wanted - considered
        late = missing & set(stamps)
        found[master] = Frames(len(considered), len(wanted), sorted(missing), sorted(late), sorted(foreign))
    return found


def _processed(repo: "Repository", row: ProcType, night: str, by_filter: bool) -> dict[Master, dict[int, str]] | None:
    """Return when the frames of each master were processed, by exposure; `None` where that is not recorded."""
    butler, metadata = repo.butler(), f"{ISR_TASK[row.certifies]}_metadata"
    if not has_dataset_type(butler, metadata):
        return None
    found: dict[Master, dict[int, str]] = {}
    for ref in butler.query_datasets(
        metadata, [row.chain(night)], limit=None, explain=False, with_dimension_records=True,
        where=f"instrument='{INSTRUMENT}'",
    ):  # fmt: skip
        found.setdefault(master_of(ref, by_filter), {})[ref.dataId["exposure"]] = run_stamp(ref.run)
    return found


def _recorded(repo: "Repository", chain: str, refs: Iterable[Any]) -> dict[str, tuple[list[int], list[int]]]:
    """Return the exposures that masters say they are made from and have rejected, by dataset id.

    Kept beside the repository: a master never changes, and reading a night's takes a second.
    """
    path = repo.state_dir / "master_frames" / (chain.replace("/", "__") + ".json")
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        kept = json.loads(path.read_text())
    found = {ref.id.hex: kept.get(ref.id.hex) or repo.engine.master_exposures(repo.butler(), ref) for ref in refs}
    if found.keys() - kept.keys():
        with suppress(OSError):  # a reader may not be allowed to write
            write_whole(path, json.dumps(kept | found))
    return {key: (used, unfit) for key, (used, unfit) in found.items() if used}
