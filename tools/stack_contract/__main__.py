"""Writes the contract: what of a stack release our pipelines rely on, as data, from checked-out sources.

Nothing of the stack is imported. Example::

    git clone --branch v30.0.8.rc4 --depth 1 https://github.com/lsst/cp_pipe SOURCES/cp_pipe    # and so on
    python tools/stack_contract SOURCES

`tools/stack_contract/sources.yaml` names the packages, their tags and the pipeline files that ours import. The same
sources give the same bytes.
"""

import argparse
import json
from pathlib import Path

import yaml
from configs import Configs
from connections import Connections, property_maps
from sources import Sources

from pipelines import Pipelines, instrument_overrides

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parents[1] / "tests" / "contract" / "v30.json"


def extract(root: Path, wanted: dict) -> dict:
    """Return the contract.

    Parameters
    ----------
    root : `~pathlib.Path`
        One checkout for each package.
    wanted : `dict`
        ``release``, ``packages`` (tag by name), ``pipelines``, ``tasks``, ``overrides``.
    """
    missing = [p for p in wanted["packages"] if not (root / p).is_dir()]
    if missing:
        raise SystemExit(f"{root} lacks {', '.join(missing)}; clone each at its tag in {HERE.name}/sources.yaml")
    sources = Sources(root, wanted["packages"])
    configs = Configs(sources)
    pipelines = Pipelines(sources, configs)
    connections = Connections(sources, configs)
    for location in wanted["pipelines"]:
        pipelines.add(location)
    names = set(wanted["tasks"])
    for row in pipelines.pipelines.values():
        names |= {task["class"] for task in row["tasks"].values()}
    aliases = {}
    for name in sorted(names):
        full = configs.add_task(sources.find(name))
        if full in configs.tasks:
            aliases[name] = full
    for row in list(configs.configs.values()):
        if "connections" in row:
            name = connections.add(sources.find(row["connections"]))
            if name.endswith(".HealSparsePropertyMapConnections"):
                connections.connections[name]["members"] |= property_maps(row["set"])
    overrides = instrument_overrides(pipelines, wanted["overrides"])
    hashes = sources.hashes()
    return {
        "release": wanted["release"],
        "sources": {
            package: {"tag": wanted["packages"][package], "files": files, "sha256": digest}
            for package, (files, digest) in hashes.items()
        },
        "aliases": aliases,
        "tasks": configs.tasks,
        "connections": connections.connections,
        "configs": configs.configs,
        "overrides": overrides,
        "files": pipelines.files,
        "pipelines": pipelines.pipelines,
    }


def as_text(contract: dict) -> str:
    """Return the contract's text: one line for each task, class and pipeline, so that a change shows where it is."""
    lines = []
    for section, rows in contract.items():
        if isinstance(rows, dict):
            inner = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in sorted(rows.items())]
            lines.append(f"{json.dumps(section)}:{{\n" + ",\n".join(inner) + "\n}")
        else:
            lines.append(f"{json.dumps(section)}:{json.dumps(rows)}")
    return "{" + ",\n".join(lines) + "}\n"


def main() -> None:
    """Read the arguments, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, help="folder with one checkout for each package")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    wanted = yaml.safe_load((HERE / "sources.yaml").read_text())
    contract = extract(arguments.sources.resolve(), wanted)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(as_text(contract))
    counts = ", ".join(f"{len(contract[s])} {s}" for s in ("tasks", "connections", "configs", "pipelines"))
    print(f"{arguments.output}: {counts}, {arguments.output.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
