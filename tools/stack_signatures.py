"""Write the signatures of what the Science Pipelines engine calls, read from the sources of the release.

    python tools/stack_signatures.py FOLDER

FOLDER holds clones named ``lsst/obs_base`` or ``lsst+obs_base/repo`` and so on. Nothing is imported: the files are
parsed as they stand at the tag. The result, ``tests/repository/stand_ins/signatures.json``, is what the stand-ins of
these packages are held to, the modules in which each name is found among it; nothing in it is edited by hand.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parents[1] / "tests/repository/stand_ins/signatures.json"
SOURCES = {
    "obs_base": ("30.0.8", {
        "python/lsst/obs/base/ingest.py": ["RawIngestConfig", "RawIngestTask.__init__", "RawIngestTask.run"],
        "python/lsst/obs/base/defineVisits.py": [
            "DefineVisitsConfig", "DefineVisitsTask.__init__", "DefineVisitsTask.run",
        ],
        "python/lsst/obs/base/_instrument.py": [
            "Instrument.writeCameraGeom", "Instrument.writeStandardTextCuratedCalibrations",
            "Instrument.writeAdditionalCuratedCalibrations",
        ],
    }),
    # The mirror that was read has no tags of obs_decam: its main branch, which the release was cut from.
    "obs_decam": ("35ef7ab7cfc421e28e795f4ec35068913687ba40", {
        "python/lsst/obs/decam/_instrument.py": [
            "DarkEnergyCamera.__init__", "DarkEnergyCamera.register", "DarkEnergyCamera.getCamera",
        ],
    }),
    "skymap": ("30.0.5", {
        "python/lsst/skymap/baseSkyMap.py": ["BaseSkyMapConfig", "BaseSkyMap.register", "BaseSkyMap.getSha1"],
        "python/lsst/skymap/discreteSkyMap.py": ["DiscreteSkyMapConfig", "DiscreteSkyMap.__init__"],
        "python/lsst/skymap/ringsSkyMap.py": ["RingsSkyMapConfig", "RingsSkyMap.__init__"],
        "python/lsst/skymap/tractInfo.py": ["TractInfo.contains"],
    }),
    "ip_isr": ("30.0.6", {
        "python/lsst/ip/isr/defects.py": ["Defects.__init__", "Defects.toTable"],
        "python/lsst/ip/isr/calibType.py": ["IsrCalib.updateMetadata"],
    }),
    "source_injection": ("30.0.7", {
        "python/lsst/source/injection/utils/_ingest_injection_catalog.py": ["ingest_injection_catalog"],
    }),
}  # fmt: skip
"""Repository → tag or commit, and by file the functions (signature) and configuration classes (fields) to read."""


def main(folder: Path) -> None:
    """Read every source and write the signatures."""
    result = {}
    for name, (tag, files) in SOURCES.items():
        candidates = (folder / "lsst" / name, folder / f"lsst+{name}" / "repo")
        clone = next((c for c in candidates if c.is_dir()), None)
        if clone is None:
            sys.exit(f"no clone of lsst/{name} in {folder}; expected {' or '.join(map(str, candidates))}")
        symbols: dict[str, Any] = {}
        modules: dict[str, str] = {}
        package = Path("python", "lsst", *name.split("_"))
        exported = _exported(clone, tag, package / "__init__.py")
        for path, wanted in files.items():
            tree = ast.parse(_git(clone, "show", f"{tag}:{path}"))
            symbols |= {symbol: _describe(_find(tree, symbol)) for symbol in wanted}
            for top in {symbol.split(".")[0] for symbol in wanted}:
                file = package if top in exported else Path(path).with_suffix("")
                modules[top] = ".".join(file.parts[1:])
        blobs = {path: _git(clone, "rev-parse", f"{tag}:{path}").strip() for path in files}
        result[name] = {"tag": tag, "files": blobs, "symbols": symbols, "modules": modules}
    OUTPUT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def _git(clone: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(clone), *words], check=True, capture_output=True, text=True).stdout


def _exported(clone: Path, tag: str, path: Path) -> set[str]:
    """Return the names that ``from module import *`` brings, as far as they are the package's own."""
    try:
        tree = ast.parse(_git(clone, "show", f"{tag}:{path}"))
    except subprocess.CalledProcessError:  # the module is generated, or there is a package in its place
        return set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            below = path.parent.joinpath(*node.module.split("."))
            if any(alias.name == "*" for alias in node.names):
                names |= _exported(clone, tag, below.with_suffix(".py"))
                names |= _exported(clone, tag, below / "__init__.py")
            else:
                names |= {alias.asname or alias.name for alias in node.names}
    return {name for name in names if not name.startswith("_")}


def _find(tree: ast.Module, symbol: str) -> ast.AST:
    node: Any = tree
    for part in symbol.split("."):
        node = next(n for n in node.body if getattr(n, "name", None) == part)
    return node


def _describe(node: Any) -> list[str]:
    """Return the fields of a configuration class, or a function's parameters as ``name``, ``name=default``, ``*``."""
    if isinstance(node, ast.ClassDef):
        names = [n.targets[0] if isinstance(n, ast.Assign) else n.target for n in node.body
                 if isinstance(n, ast.Assign | ast.AnnAssign)]  # fmt: skip
        return sorted(name.id for name in names if isinstance(name, ast.Name) and not name.id.startswith("_"))
    a = node.args
    plain = a.posonlyargs + a.args
    defaults = [None] * (len(plain) - len(a.defaults)) + a.defaults
    out = [_parameter(arg.arg, default) for arg, default in zip(plain, defaults)]
    if a.vararg or a.kwonlyargs:
        out.append(f"*{a.vararg.arg if a.vararg else ''}")
    out += [_parameter(arg.arg, default) for arg, default in zip(a.kwonlyargs, a.kw_defaults)]
    return out + ([f"**{a.kwarg.arg}"] if a.kwarg else [])


def _parameter(name: str, default: ast.expr | None) -> str:
    return name if default is None else f"{name}={ast.unparse(default)}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
