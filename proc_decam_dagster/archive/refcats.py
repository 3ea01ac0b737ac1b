"""Reference-catalogue shards that a survey's footprint needs, from a site that serves them as `<htm7 id>.fits`."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from astropy.table import Table

from proc_decam_dagster.archive.client import HttpSite
from proc_decam_dagster.archive.errors import NotFound
from proc_decam_dagster.archive.footprint import shards_for
from proc_decam_dagster.archive.shard_check import check_shard
from proc_decam_dagster.archive.threads import in_threads
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey import datasets

URL = "https://epyc.astro.washington.edu/~stevengs/lsst_refcats"
URL_VARIABLE = "PROC_DECAM_REFCAT_URL"
FOLDERS = {
    datasets.REFCAT_PHOTOMETRY: "ps1/ps1_pv3_3pi_20170110",
    datasets.REFCAT_ASTROMETRY: "GAIA_DR3/gaia_dr3",
    datasets.REFCAT_GAIA_DR2: "refcats/gaia_dr2_20200414",
}
"""Folder of each catalogue (by dataset type name) below the base address."""
_SHARD = re.compile(r"(?:.*\D)?(\d{6})(?:\D.*)?\.fits")


def fetch_refcats(
    exposures: Table,
    directory: str | os.PathLike,
    base_url: str | None = None,
    *,
    names: Iterable[str] | None = None,
    folders: Mapping[str, str] = FOLDERS,
    jobs: int = 4,
    progress: Callable[[int, int, str], None] | None = None,
    site: HttpSite | None = None,
) -> dict[str, list[Path]]:
    """Fetch the shards of a survey's footprint; those that are on disk are not fetched again.

    Parameters
    ----------
    exposures : `astropy.table.Table`
        The survey, see `footprint.shards_for`.
    directory : `os.PathLike`
        Shards go to ``directory/<catalogue>/<htm7>.fits``.
    base_url : `str`, optional
        Address of the site; by default the environment's ``PROC_DECAM_REFCAT_URL``, else the real one.
    names : iterable of `str`, optional
        Catalogues, as dataset type names; by default all that the site has an index of, of which one at least
        must be photometric and one astrometric for a survey to be calibrated: that is the pipeline's to say.

    Returns
    -------
    shards : `dict` [`str`, `list` [`pathlib.Path`]]
        Files by catalogue; a catalogue without a shard of the footprint (PS1 in the south) is left out.

    Raises
    ------
    SurveyError
        If the site has none of the catalogues, lacks one that ``names`` asks for, or no shard of the footprint, or
        sends one whose sources are not those of its trixel.
    """
    site = site or HttpSite(base_url or os.environ.get(URL_VARIABLE) or URL)
    wanted, directory = set(shards_for(exposures)), Path(directory).absolute()
    work: list[tuple[str, str, Path]] = []
    for name in names or folders:
        try:
            index = parse_index(site.text(f"{folders[name]}/index.dat"))
        except KeyError:
            raise SurveyError(f"reference catalogue {name!r} is unknown", f"some of {', '.join(folders)}") from None
        except NotFound:
            if names:
                raise
            continue
        for shard in sorted(wanted & index.keys()):
            work.append((name, f"{folders[name]}/{index[shard]}", directory / name / f"{shard}.fits"))
    if not work:
        raise SurveyError(
            f"{site.url} has no reference-catalogue shard of the {len(wanted)} in the survey's footprint",
            f"an index.dat in {', '.join(folders.values())}",
            "check --refcat-url, or give files with --shards DIR",
        )
    for name in {w[0] for w in work}:
        (directory / name).mkdir(parents=True, exist_ok=True)
    fetch_files(site, [(source, path) for _, source, path in work], jobs, progress, check_shard)
    shards: dict[str, list[Path]] = {}
    for name, _, path in work:
        shards.setdefault(name, []).append(path)
    return shards


def given_shards(directory: str | os.PathLike, names: Iterable[str] = tuple(FOLDERS)) -> dict[str, list[Path]]:
    """Return the shards of a folder that holds ``<catalogue>/<htm7>.fits``, by catalogue.

    Raises
    ------
    SurveyError
        If there are none.
    """
    directory = Path(directory).absolute()
    shards = {name: sorted(p for p in (directory / name).glob("*.fits") if _SHARD.fullmatch(p.name)) for name in names}
    shards = {name: paths for name, paths in shards.items() if paths}
    if not shards:
        raise SurveyError(
            f"{directory} holds no reference-catalogue shards",
            f"files <htm7 id>.fits in a folder named {', '.join(names)}",
        )
    return shards


def parse_index(text: str) -> dict[int, str]:
    """Return the file name of each shard that an ``index.dat`` lists, one name a line.

    The id is the name's one group of exactly six digits (every htm7 id has six), compared whole: matching it as a
    part of the name would pair shards with other files. A name with two such groups is ambiguous and left out.
    """
    index = {}
    for line in text.splitlines():
        name = line.strip().removeprefix("./")
        groups = re.findall(r"(?<!\d)\d{6}(?!\d)", name)
        if len(groups) == 1 and _SHARD.fullmatch(name):
            index[int(groups[0])] = name
    return index


def fetch_files(
    site: HttpSite, files: list[tuple[str, Path]], jobs: int = 4,
    progress: Callable[[int, int, str], None] | None = None, check: Callable[[Path, str], object] | None = None,
) -> None:  # fmt: skip
    """Fetch (path on the site, path on disk) that are not there yet; the first failure ends it, what came stays.

    What came has the length that was announced; ``check`` looks at what is in it (given a path, and the name that the
    file is to have) and raises an error if that is wrong: only what passed gets its name.
    """

    def one(item: tuple[str, Path]) -> Path:
        source, path = item
        if not path.is_file():
            arrived = path.with_name(f"{path.name}.unchecked") if check else path
            site.fetch(source, arrived)
            if check:
                try:
                    check(arrived, path.name)
                    os.replace(arrived, path)
                finally:
                    arrived.unlink(missing_ok=True)
        return path

    def told(done: int, path: Path) -> None:
        if progress:
            progress(done, len(files), f"{path.parent.name}/{path.name}")

    in_threads(one, files, jobs, told=told, stop=site.stop)
