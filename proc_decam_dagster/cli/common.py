"""What all commands share: errors as one line, options with several values, logging, refusals with their reason."""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from proc_decam_dagster.cli.mistakes import FAILED, tell, told
from proc_decam_dagster.cores import asked_cores
from proc_decam_dagster.errors import SurveyError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class Many(click.Option):
    """An option that takes all values up to the next option: ``--steps 1 2a`` and ``--steps 1 --steps 2a`` and
    ``--steps 1,2a`` are the same.

    Parameters
    ----------
    accepts : callable, optional
        Whether a further word is one of its values; a word that is not belongs to the command's arguments.
    split : `bool`
        Whether commas and spaces within one word separate values.
    """

    def __init__(self, *args: Any, accepts: Callable[[str], bool] | None = None, split: bool = False, **kwargs: Any):
        super().__init__(*args, multiple=True, **kwargs)
        self.accepts, self.split = accepts or (lambda word: True), split

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return all values, those within one word apart."""
        values = super().process_value(ctx, value)
        return tuple(v for word in values for v in word.replace(",", " ").split()) if self.split else values


class SurveyCommand(click.Command):
    """A command that tells a `SurveyError` in one line with exit code 1, and knows options with several values."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params += [
            click.Option(
                ["--log-level"], type=click.Choice(LEVELS, case_sensitive=False), default="INFO", show_default=True,
                expose_value=False, callback=_set_level, help="How much is told on stderr.",
            ),
            click.Option(
                ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show an error's traceback."
            ),
        ]  # fmt: skip

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the name of an option before each of its further values."""
        ctx.meta["words"] = list(args)
        many = {name: p for p in self.params if isinstance(p, Many) for name in p.opts}
        return super().parse_args(ctx, spread(args, many))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        super().format_epilog(ctx, formatter)
        if self.example:
            with formatter.section("Example"):
                for line in self.example.splitlines():
                    formatter.write(" " * formatter.current_indent + line + "\n")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what a user can mend is told in one line."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            text = None if ctx.meta.get("debug") else told(error)
            if text is None:
                raise
            tell(text)
            ctx.exit(FAILED)


class SurveyGroup(click.Group):
    """A group of commands that shows an example, as each command does."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Example"):
            formatter.write(" " * formatter.current_indent + self.example + "\n")


def spread(args: Sequence[str], many: dict[str, Many]) -> list[str]:
    """Return command-line words with the option's name put before each further value of a `Many` option."""
    out: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        out.append(word)
        if word == "--":
            return out + words
        if word not in many or not words:
            continue
        out.append(words.pop(0))
        while words and not words[0].startswith("-") and many[word].accepts(words[0]):
            out += [word, words.pop(0)]
    return out


def command(name: str, example: str) -> Callable[[Callable], SurveyCommand]:
    """Return a decorator that makes a function one of our commands."""
    return click.command(name, cls=SurveyCommand, example=example)


def stack(*options: Callable) -> Callable:
    """Return several option decorators as one."""

    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


repo_argument = click.argument("repo", type=click.Path(path_type=Path))
where_option = click.option("--where", default="", help='Butler query that restricts the data: "detector IN (1..10)".')
template_options = stack(
    click.option("--coadd-subset", default="", help="Name of the coadd subset, for instance 2019."),
    click.option("--template-type", default="", help="How templates are made: mean, median, meanclip or min."),
)
pipeline_dir_option = click.option(
    "--pipeline-dir", type=click.Path(path_type=Path), help="Folder with your own versions of the pipeline files."
)
select_option = click.option(
    "--select", cls=Many, accepts=lambda word: "=" in word, metavar="COLUMN=VALUE …",
    help="Only rows where a column matches; the value is a regular expression.",
)  # fmt: skip
archive_url_option = click.option(
    "--archive-url", envvar="PROC_DECAM_ARCHIVE_URL", default="", help="Address of the archive.  [default: NOIRLab's]"
)
image_dir_option = click.option(
    "--image-dir", type=click.Path(path_type=Path),
    help="Folder of raw files.  [default: `images` beside the exposure table, else where `download` put them]",
)  # fmt: skip
science_option = click.option(
    "--science", type=click.Choice(["clean", "injected", "both"]), default="clean", show_default=True,
    help="Which science images are differenced: as observed, with fakes, or first one, then the other.",
)  # fmt: skip


def attempt_options(function: Callable) -> Callable:
    """Add the options on how a quantum is tried; the function gets what `run_step` takes, as ``attempts``."""

    @functools.wraps(function)
    def with_attempts(
        *args: Any, no_skip_existing: bool, retry_failed: bool, time_limit: float | None, memory: float | None,
        **kwargs: Any,
    ):  # fmt: skip
        attempts = {
            "skip_existing": not no_skip_existing, "retry_failed": retry_failed, "time_limit": time_limit,
            "memory_mb": None if memory is None else memory * 1024,
        }  # fmt: skip
        return function(*args, attempts=attempts, **kwargs)

    return stack(
        click.option("--no-skip-existing", is_flag=True, help="Run again what has succeeded."),
        click.option("--retry-failed", is_flag=True, help="Run again what failed for good, with all its tries anew."),
        click.option(
            "--time-limit", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
            help="A quantum that takes longer is killed, and has failed.",
        ),
        click.option(
            "--memory", type=click.FloatRange(0, min_open=True), metavar="GB",
            help="What a quantum may take at first, and twice as much after it ran out of it.  "
            "[default: an equal share of the machine's]",
        ),
    )(with_attempts)  # fmt: skip


def workers_option(what: str, default: int = 4) -> Callable:
    """Return the option ``-J``."""
    return click.option("-J", "--workers", type=click.IntRange(1), default=default, show_default=True, help=what)


def cores() -> int | None:
    """Return `asked_cores`; what is wrong with it is wrong with the call."""
    try:
        return asked_cores()
    except SurveyError as error:
        raise click.UsageError(str(error)) from None


def sciences(choice: str) -> list[str]:
    """Return the values of ``--science`` one by one."""
    return ["clean", "injected"] if choice == "both" else [choice]


def select(table, selections: Sequence[str]):
    """Return the rows of a table that satisfy every selection; quotes around a value are taken off."""
    from proc_decam_dagster.survey.exposures import select_rows

    chosen = []
    for selection in selections:
        column, equals, value = selection.partition("=")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        chosen.append(f"{column}{equals}{value}")
    table = select_rows(table, chosen)
    if not len(table):
        if not chosen:
            raise SurveyError(
                "the exposure table is empty", "one row a file", "write it again with `proc-decam exposures`"
            )
        raise SurveyError(f"no row satisfies {' and '.join(chosen)}", "at least one", "correct --select")
    return table


def images_of(exposures_file: Path, image_dir: Path | None) -> Path:
    """Return the folder of a table's raw files: as given, or where its download put them."""
    if image_dir is not None:
        if not image_dir.is_dir():
            raise SurveyError(f"image folder {image_dir} does not exist", fix="give the one that `download` wrote to")
        return image_dir
    beside = exposures_file.absolute().parent / "images"
    if beside.is_dir():
        return beside
    from proc_decam_dagster.archive import folders_of

    folders = folders_of(exposures_file)
    if len(folders) == 1:
        return folders.pop()
    raise SurveyError(
        f"no raw files of {exposures_file} are known: there is no folder {beside}",
        fix=f"download them with `proc-decam download {exposures_file} --download-dir {beside}`, or add --image-dir",
    )


class _Echo(logging.Handler):
    """Writes to whatever stderr is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _set_level(ctx: click.Context, parameter: click.Parameter, value: str) -> None:
    level, root = getattr(logging, value.upper()), logging.getLogger()
    if not any(isinstance(handler, _Echo) for handler in root.handlers):
        handler = _Echo()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    # The libraries' own notices are for those who look for an error.
    root.setLevel(level if level == logging.DEBUG else max(level, logging.WARNING))
    logging.getLogger("proc_decam_dagster").setLevel(level)
    for noisy in ("urllib3", "matplotlib", "asyncio", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It looks for pandas, which we do not need, and says so.
    logging.getLogger("lsst.daf.butler._storage_class").setLevel(level if level == logging.DEBUG else logging.ERROR)
    # It logs the error that it raises, which we tell.
    logging.getLogger("lsst.daf.butler.direct_butler").setLevel(level if level == logging.DEBUG else logging.CRITICAL)


def _set_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    ctx.meta["debug"] = value
