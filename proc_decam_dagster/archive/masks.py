"""Bad-pixel masks of the Community Pipeline (`cp/`) and of DES (`des/`), from a site that lists them in `index.dat`."""

import os
from collections.abc import Callable
from pathlib import Path

from proc_decam_dagster.archive.client import HttpSite
from proc_decam_dagster.archive.mask_file import read_mask
from proc_decam_dagster.archive.refcats import fetch_files
from proc_decam_dagster.errors import SurveyError

URL = "https://epyc.astro.washington.edu/~stevengs/decam_bpm"
URL_VARIABLE = "PROC_DECAM_BPM_URL"
FAMILIES = ("cp", "des")


def fetch_masks(
    directory: str | os.PathLike,
    base_url: str | None = None,
    *,
    jobs: int = 4,
    progress: Callable[[int, int, str], None] | None = None,
    site: HttpSite | None = None,
) -> dict[str, list[Path]]:
    """Fetch all mask files into ``directory/{cp,des}/``; those that are on disk are not fetched again.

    Each file is read after it came, whole: one that is no image of a trimmed CCD is removed again.

    Parameters
    ----------
    directory : `os.PathLike`
        Where to.
    base_url : `str`, optional
        Address of the site; by default the environment's ``PROC_DECAM_BPM_URL``, else the real one.

    Returns
    -------
    masks : `dict` [`str`, `list` [`pathlib.Path`]]
        Files by family.

    Raises
    ------
    SurveyError
        If the site lists none of a family, or what it sends is no mask.
    """
    site, directory = site or HttpSite(base_url or os.environ.get(URL_VARIABLE) or URL), Path(directory).absolute()
    work: list[tuple[str, str, Path]] = []
    for family in FAMILIES:
        names = [n.strip().removeprefix("./") for n in site.text(f"{family}/index.dat").splitlines()]
        # A listing is not trusted to stay in its folder.
        names = [n for n in names if ".fits" in n and "/" not in n]
        if not names:
            raise SurveyError(f"{site.url}/{family}/index.dat lists no FITS file", "one name a line", "check --bpm-url")
        (directory / family).mkdir(parents=True, exist_ok=True)
        work += [(family, f"{family}/{n}", directory / family / n) for n in names]
    fetch_files(site, [(source, path) for _, source, path in work], jobs, progress, read_mask)
    masks: dict[str, list[Path]] = {}
    for family, _, path in work:
        masks.setdefault(family, []).append(path)
    return masks
