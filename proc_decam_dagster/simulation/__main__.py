"""``python -m proc_decam_dagster.simulation make DIR`` and ``… serve DIR --port N``."""

import argparse
import sys
from pathlib import Path

from proc_decam_dagster.errors import SurveyError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m proc_decam_dagster.simulation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="simulate a survey")
    make.add_argument("directory")
    make.add_argument("--seed", type=int, default=1)
    make.add_argument("--detectors", default="28,35", help="CCDNUMs, separated by commas")
    make.add_argument("--sky", default="149.4,1.7", help="RA,Dec in degrees")
    make.add_argument("--band", default="r")
    make.add_argument("--template-nights", type=int, default=2)
    make.add_argument("--science-nights", type=int, default=1)
    make.add_argument("--exposures", type=int, default=4, help="object exposures a night")
    make.add_argument("--zeros", type=int, default=6)
    make.add_argument("--flats", type=int, default=6)
    make.add_argument("--hold-back", action="append", default=[], metavar="NIGHT", help="a night not to show yet")
    make.add_argument("--all-extensions", action="store_true", help="write all 62 science and 8 focus CCDs")
    make.add_argument("--jobs", "-j", type=int, default=2)
    add = commands.add_parser("add-night", help="observe one more night of a survey")
    add.add_argument("directory")
    add.add_argument("--kind", choices=("science", "template"), default="science")
    add.add_argument("--jobs", "-j", type=int, default=2)
    release = commands.add_parser("release", help="show a night that was held back; a running server notices")
    release.add_argument("directory")
    release.add_argument("night")
    serve = commands.add_parser("serve", help="serve a survey, or an exposure table, as the archive would")
    serve.add_argument("directory")
    serve.add_argument("--port", type=int, default=8642)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--hold-back", action="append", metavar="NIGHT", help="hide a night until it is released")
    serve.add_argument("--prefixed", action="store_true", help="write keys as file:md5sum")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "make":
            _make(options)
        elif options.command == "add-night":
            from proc_decam_dagster.simulation.survey import add_night

            print(add_night(options.directory, kind=options.kind, jobs=options.jobs, progress=_progress))
        elif options.command == "release":
            from proc_decam_dagster.simulation.holdings import Holdings
            from proc_decam_dagster.simulation.survey import FILES, HELD_BACK

            holdings = Holdings(Path(options.directory) / FILES, Path(options.directory) / HELD_BACK)
            holdings.hold_back(holdings.held_back() - {options.night})
        else:
            _serve(options)
    except SurveyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _progress(done: int, total: int, name: str) -> None:
    print(f"\r{done}/{total} {name}  ", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _make(options: argparse.Namespace) -> None:
    from proc_decam_dagster.simulation.survey import simulate_survey

    try:
        detectors = tuple(int(d) for d in options.detectors.split(","))
        ra, dec = (float(v) for v in options.sky.split(","))
    except ValueError:
        raise SurveyError(
            f"--detectors {options.detectors!r} --sky {options.sky!r}", "numbers and commas, as 28,35 and 149.4,1.7"
        ) from None
    simulate_survey(
        options.directory, seed=options.seed, detectors=detectors, sky=(ra, dec), band=options.band,
        template_nights=options.template_nights, science_nights=options.science_nights,
        exposures_per_night=options.exposures, zeros=options.zeros, flats=options.flats, jobs=options.jobs,
        all_extensions=options.all_extensions, hold_back=options.hold_back, progress=_progress,
    )  # fmt: skip


def _serve(options: argparse.Namespace) -> None:
    from proc_decam_dagster.simulation.server import ArchiveServer

    server = ArchiveServer(
        options.directory, options.port, options.host, prefixed=options.prefixed, hold_back=options.hold_back
    )
    print(f"serving {options.directory} at {server.url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
