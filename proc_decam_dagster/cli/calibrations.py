"""Commands about master calibrations: whose a night is processed with, and the list of overrides."""

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, SurveyGroup, command, repo_argument
from proc_decam_dagster.errors import SurveyError

OWN = "own"


@click.group(
    "calibrations", cls=SurveyGroup, example="proc-decam calibrations set ./repo 20190401 --detector 31 --from 20190402"
)
def calibrations() -> None:
    """Whose master calibrations each night is processed with, and the overrides that people keep.

    Every action has --help, --log-level and --debug.
    """


@command("show", example="proc-decam calibrations show ./repo\nproc-decam calibrations show ./repo 20190401")
@repo_argument
@click.argument("nights", metavar="[NIGHT]…", nargs=-1)
def show_nights(repo, nights) -> None:
    """Show whose masters nights are calibrated with, and the overrides that are in force or were."""
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.overrides import read_overrides
    from proc_decam_dagster.repository.substitutes import calibrated_nights, calibrations_used
    from proc_decam_dagster.survey.calibration_policy import CERTIFIED

    repository = open_repository(repo)
    chosen = list(nights) or calibrated_nights(repository)
    show.table(("night", *CERTIFIED), [(n, *(calibrations_used(repository, n, d) for d in CERTIFIED)) for n in chosen])
    entries = [o for o in read_overrides(repository) if not nights or o.night in nights]
    if entries:
        click.echo()
        show.table(
            ("night", "override", "detectors", "from", "who", "when", "why"),
            [
                (o.night, o.dataset, ",".join(map(str, o.detectors)) or "all", o.source, o.who, o.when, o.why)
                for o in entries
            ],
        )


@command(
    "set",
    example='proc-decam calibrations set ./repo 20190401 --detector 31 --from 20190402 --why "bias jumps"\n'
    "proc-decam calibrations set ./repo 20190401 --type flat --from 20190402",
)
@repo_argument
@click.argument("night")
@click.option(
    "--from", "source", required=True, metavar="NIGHT",
    help="The night whose masters are used; `own`: its own, whatever their levels.",
)  # fmt: skip
@click.option("--detector", "detectors", cls=Many, split=True, metavar="CCD …", help="Only these.  [default: all]")
@click.option(
    "--type", "types", cls=Many, split=True, metavar="TYPE …", help="bias, flat.  [default: those the other night has]"
)
@click.option("--why", default="", help="The reason, for those who read the list.")
def set_override(repo, night, source, detectors, types, why) -> None:
    """Have a night, or some of its CCDs, calibrated with another night's masters, from now on.

    It is kept in proc_decam/calibration_overrides.yaml of the repository, with who decided it and when, and holds also
    when the night's own calibrations are made again. `unset` takes it back.
    """
    _override(repo, night, source, detectors, types, why)


@command("unset", example="proc-decam calibrations unset ./repo 20190401 --detector 31")
@repo_argument
@click.argument("night")
@click.option("--detector", "detectors", cls=Many, split=True, metavar="CCD …", help="Only these.  [default: all]")
@click.option("--type", "types", cls=Many, split=True, metavar="TYPE …", help="bias, flat.  [default: both]")
@click.option("--why", default="", help="The reason.")
def unset_override(repo, night, detectors, types, why) -> None:
    """Take an override back: the night's own masters are certified again, where it has complete ones."""
    _override(repo, night, OWN, detectors, types, why)


@command("apply", example="proc-decam calibrations apply ./repo")
@repo_argument
def apply_all(repo) -> None:
    """Carry out the list after an edit by hand.

    Processing a night does this by itself for that night, except for entries that take back an earlier one.
    """
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.overrides import apply_overrides, read_overrides

    repository = open_repository(repo)
    pairs = dict.fromkeys((o.night, o.dataset) for o in read_overrides(repository))
    _tell([line for night, dataset in pairs for line in apply_overrides(repository, night, dataset, take_back=True)])


def _override(repo, night: str, source: str, detectors, types, why: str) -> None:
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.overrides import add_override
    from proc_decam_dagster.repository.substitutes import own_masters
    from proc_decam_dagster.survey.calibration_policy import CERTIFIED

    wrong = [d for d in detectors if not d.isdecimal()]
    if wrong:
        raise SurveyError(f"--detector {' '.join(wrong)}", "numbers of CCDs, such as 31")
    repository = open_repository(repo)
    chosen = list(types) or [d for d in CERTIFIED if source == OWN or own_masters(repository, source, d)]
    _tell(add_override(repository, night, chosen or CERTIFIED[:1], source, tuple(map(int, detectors)), why))


def _tell(done: list[str]) -> None:
    for line in done or ["nothing to change"]:
        click.echo(line)
    if done:
        click.echo("what was calibrated before stays as it is until it is run again with --no-skip-existing")


for action in (show_nights, set_override, unset_override, apply_all):
    calibrations.add_command(action)
