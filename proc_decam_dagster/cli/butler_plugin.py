"""Subcommands of ``butler`` for the embedded instrument: those that the reference types and PyPI's ``butler`` lacks.

A plain ``butler create`` knows nothing of our storage classes; whatever of ours opens the repository first writes them
into its ``butler.yaml``, so that the sequence works as it is typed. Where obs_base is installed its own commands
have these names, and ours are not offered: the middleware refuses duplicates.
"""

from importlib.util import find_spec

import click

COMMANDS_OF_OBS_BASE = "lsst.obs.base"


def get_cli_subcommands() -> list[click.Command]:
    """Return our commands; none beside an installed Science Pipelines stack, which has its own."""
    if _stack_is_there():
        return []
    return [write_curated_calibrations, register_skymap, define_visits, ingest_raws]


def _stack_is_there() -> bool:
    try:
        return find_spec(COMMANDS_OF_OBS_BASE) is not None
    except ModuleNotFoundError:  # a parent package is absent
        return False


def _open(repo: str):
    """Open a repository; a mistake of the user is one line."""
    from proc_decam_dagster.errors import SurveyError
    from proc_decam_dagster.repository import open_repository

    try:
        return open_repository(repo)
    except SurveyError as error:
        raise click.ClickException(str(error)) from None


def _run(function, *args, **kwargs):
    """Call a function; a mistake of the user is one line."""
    from proc_decam_dagster.errors import SurveyError

    try:
        return function(*args, **kwargs)
    except SurveyError as error:
        raise click.ClickException(str(error)) from None


def _check_instrument(repository, instrument: str) -> None:
    if instrument not in ("DECam", repository.engine.instrument_class):
        raise click.ClickException(
            f"instrument {instrument}; expected DECam, here of class {repository.engine.instrument_class}"
        )


@click.command("write-curated-calibrations")
@click.argument("repo")
@click.argument("instrument")
def write_curated_calibrations(repo: str, instrument: str) -> None:
    """Write the calibrations that come with DECam (crosstalk, linearity) into DECam/calib.

    Example: butler write-curated-calibrations ./repo proc_decam_dagster.instrument.DarkEnergyCamera
    """
    repository = _open(repo)
    _check_instrument(repository, instrument)
    new = _run(repository.engine.write_curated_calibrations, repository.butler(writeable=True))
    click.echo(f"{new} curated calibrations written")


@click.command("register-skymap")
@click.argument("repo")
@click.option(
    "-c", "--config", multiple=True, metavar="NAME=VALUE", help="name='…', kind=rings|discrete, exposures=FILE"
)
@click.option(
    "-C", "--config-file", type=click.Path(exists=True, dir_okay=False), help="YAML file of the same settings"
)
def register_skymap(repo: str, config: tuple[str, ...], config_file: str | None) -> None:
    """Make a skymap and set it as the survey's.

    A discrete one fits the exposures of `exposures=FILE`, or those that the repository knows. Where there are none
    yet, the rings skymap of the whole sky is registered under the name given.

    Example: butler register-skymap ./repo -c name='discrete'
    """
    from proc_decam_dagster.repository import add_discrete_skymap
    from proc_decam_dagster.repository.skymap import register_skymap as register
    from proc_decam_dagster.survey.exposures import read_exposures

    settings = _settings(config, config_file)
    repository = _open(repo)
    name = settings.get("name", "")
    kind = settings.get("kind") or ("discrete" if name == "discrete" or "exposures" in settings else "rings")
    exposures = _run(read_exposures, settings["exposures"]) if "exposures" in settings else repository.exposures()
    if kind == "discrete" and exposures is not None and len(exposures):
        name = _run(add_discrete_skymap, repository, exposures, name or "discrete")
        click.echo(f"skymap {name} fits {len(exposures)} exposures")
        return
    skymap = _run(repository.engine.rings_skymap, name)
    _run(register, repository, skymap, fits=False)
    hint = "" if kind == "rings" else "; no exposures are known yet, so that it is the whole sky's"
    click.echo(f"skymap {skymap.name} registered{hint}")


def _settings(config: tuple[str, ...], config_file: str | None) -> dict[str, str]:
    import yaml

    settings: dict[str, str] = {}
    if config_file:
        with open(config_file) as file:
            settings = yaml.safe_load(file) or {}
        if not isinstance(settings, dict):
            raise click.ClickException(f"{config_file} holds no mapping; expected name, kind, exposures")
    for item in config:
        name, found, value = item.partition("=")
        if not found:
            raise click.ClickException(f"-c {item}; expected NAME=VALUE")
        settings[name.strip().removeprefix("config.")] = value.strip().strip("'\"")
    unknown = sorted(set(settings) - {"name", "kind", "exposures"})
    if unknown:
        raise click.ClickException(f"setting {', '.join(unknown)} is unknown; expected name, kind, exposures")
    if settings.get("kind", "rings") not in ("rings", "discrete"):
        raise click.ClickException(f"kind {settings['kind']} is unknown; expected rings or discrete")
    return settings


@click.command("define-visits")
@click.argument("repo")
@click.argument("instrument")
@click.option("--where", default="", help="Butler expression that narrows the exposures.")
def define_visits(repo: str, instrument: str, where: str) -> None:
    """Define a visit for every science exposure of the repository.

    Example: butler define-visits ./repo DECam
    """
    repository = _open(repo)
    _check_instrument(repository, instrument)
    butler = repository.butler(writeable=True)
    term = "instrument='DECam' AND exposure.observation_type='science'"
    exposures = [
        record.id
        for record in butler.query_dimension_records(
            "exposure", where=f"{term} AND ({where})" if where else term, limit=None, explain=False
        )
    ]
    new = _run(repository.engine.define_visits, butler, exposures, repository.settings.skymap)
    click.echo(f"{new} visits defined, {len(exposures) - new} were there")


@click.command("ingest-raws")
@click.argument("repo")
@click.argument("locations", nargs=-1, required=True)
@click.option("-t", "--transfer", default="direct", show_default=True, help="direct, copy, symlink, …")
@click.option("--output-run", default="DECam/raw/all", show_default=True, help="RUN collection of the raws.")
def ingest_raws(repo: str, locations: tuple[str, ...], transfer: str, output_run: str) -> None:
    """Ingest raw files; a file that cannot be read is named, and the others go on.

    Example: butler ingest-raws ./repo ./data/images/*.fits.fz
    """
    from proc_decam_dagster.errors import SurveyError

    repository = _open(repo)
    butler = repository.butler(writeable=True)
    failed = 0
    for path in locations:
        try:
            repository.engine.ingest_raws(butler, [repository.engine.read_raw(path)], transfer=transfer, run=output_run)
        except SurveyError as error:
            failed += 1
            click.echo(f"{path}: {error}", err=True)
    click.echo(f"{len(locations) - failed} of {len(locations)} files ingested")
    if failed:
        raise click.ClickException(f"{failed} files were not ingested")
