"""The `proc-decam` command: which module each of its commands lives in, imported when it is asked for."""

from importlib import import_module
from typing import Any

import click

from proc_decam_dagster import __version__
from proc_decam_dagster.cli.mistakes import one_line

COMMANDS = {
    # A survey's data
    "exposures": ("data", "Search the archive for a survey's exposures and their calibrations."),
    "download": ("downloads", "Download and verify the files of an exposure table."),
    "adopt": ("downloads", "Verify files that came by other means, and enter them."),
    "nights": ("data", "List the nights of an exposure table or repository."),
    # A repository
    "create": ("repository", "Create a repository with its instrument, calibrations and skymap."),
    "take-over": ("repository", "Go on with a repository that the replaced system made."),
    "skymap": ("repository", "Add a skymap that fits the survey's footprint."),
    "db": ("database", "Create, start, stop, back up, … a repository's Postgres database."),
    # What a survey is reduced with
    "defects": ("references", "Ingest bad-pixel masks as defects."),
    "refcats": ("references", "Fetch and ingest the footprint's reference catalogues."),
    "fakes": ("references", "Ingest a table of synthetic sources."),
    # Raws and collections
    "ingest": ("raws", "Ingest raw files."),
    "raw": ("raws", "Tag a night's raws for a proc type."),
    "define-visits": ("raws", "Define the visits of a night's science exposures."),
    "collection": ("collections", "Make or update the chain of a proc type."),
    "associate": ("collections", "Tag datasets into a collection."),
    "decertify": ("collections", "Take back the certifications of a calibration."),
    "calibrations": ("calibrations", "Show, set, unset whose calibrations a night is processed with."),
    # What is left out, what changed, what is thrown away
    "exclude": ("exclusions", "Leave out exposures, CCDs or amplifiers, with a reason."),
    "include": ("exclusions", "Take back an entry of the list of exclusions."),
    "exclusions": ("exclusions", "Show the list of exclusions, or its history."),
    "compare": ("changes", "Compare two runs: software, configuration, inputs, figures."),
    "stale": ("changes", "Show products that are older than what they were made from."),
    "clean": ("clean", "Move what no chain finds any more to the trash, bring it back, or free its space."),
    # Processing
    "plan": ("plan", "Show what processing would take: GB, core-hours, what lacks, what is skipped."),
    "night": ("processing", "Process nights: ingest, tag, chain, run, certify."),
    "pipeline": ("processing", "Run the steps of one proc type."),
    "coadd": ("processing", "Make a template from the warps of matching nights."),
    "backfill": ("backfill", "Ask Dagster to make assets of many nights."),
    "execute": ("graphs", "Run one step, or a whole pipeline, until it is complete."),
    "qgraph": ("graphs", "Build the quantum graph of a step."),
    "cancel": ("batch", "End what BPS runs of a chain."),
    "retries": ("graphs", "Let the transient failures of a RUN be tried again."),
    # How it stands
    "status": ("status", "Nights and templates at a glance."),
    "failures": ("failures", "What failed, cause by cause, and the next command for each."),
    "page": ("page", "Static pages of the survey and its nights, to look at in any browser."),
}
"""Command → module of this package, and its line in the help: listing the commands imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; wrong use and Ctrl-C end it with one line."""
        with one_line(ctx):
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"proc_decam_dagster.cli.{COMMANDS[name][0]}")
        return getattr(module, name.replace("-", "_"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="proc-decam")
def main() -> None:
    """Process a DECam imaging survey, from its proposal id to difference images.

    A survey goes through these commands in this order: exposures, download, create, defects, refcats, night, coadd,
    and night again with --proc-types diff_drp. `proc-decam COMMAND --help` shows an example of each.
    """


if __name__ == "__main__":
    main()
