"""Upstream pipeline files: tasks, their classes and overrides, subsets, imports."""

import ast
import os

import yaml
from configs import Configs
from sources import Sources
from values import assignments


def package_of(variable: str) -> str:
    """Return the package that an environment variable of the stack names (``DRP_PIPE_DIR``: ``drp_pipe``)."""
    special = {"MEAS_TRANSINET_DIR": "meas_transiNet"}
    return special.get(variable, variable.removesuffix("_DIR").lower())


class Pipelines:
    """Collects pipeline files with all that they import.

    Parameters
    ----------
    sources, configs : `Sources`, `Configs`
        The checkouts, and where tasks that an override names are taken in.
    """

    def __init__(self, sources: Sources, configs: Configs) -> None:
        self.sources, self.configs = sources, configs
        self.pipelines: dict[str, dict] = {}
        self.files: dict[str, list] = {}

    def add(self, location: str) -> None:
        """Take in a file, named ``$PACKAGE_DIR/path``."""
        location = location.replace("${", "$").replace("}", "").split("#")[0]
        if location in self.pipelines:
            return
        variable, _, path = location.removeprefix("$").partition("/")
        file = self.sources.root / package_of(variable) / path
        if not file.is_file():
            raise FileNotFoundError(f"{location} is not in the sources: {file} is missing")
        text = yaml.safe_load(self.sources.read(file))
        row = self.pipelines[location] = {}
        imports = text.get("imports", [])
        for item in imports if isinstance(imports, list) else [imports]:
            item = {"location": item} if isinstance(item, str) else item
            row.setdefault("imports", []).append(dict(sorted(item.items())))
            self.add(item["location"])
        for key in ("instrument", "parameters"):
            if key in text:
                row[key] = text[key]
        row["tasks"] = {label: self._task(task) for label, task in (text.get("tasks") or {}).items()}
        row["subsets"] = {
            label: sorted(subset["subset"] if isinstance(subset, dict) else subset)
            for label, subset in (text.get("subsets") or {}).items()
        }

    def _task(self, task: dict | str) -> dict:
        if isinstance(task, str):
            return {"class": task}
        row = {"class": task["class"]}
        overrides = []
        configs = task.get("config") or []
        for config in configs if isinstance(configs, list) else [configs]:
            for key, value in config.items():
                if key == "file":
                    for name in value if isinstance(value, list) else [value]:
                        self.files[name] = self.override_file(name)
                        overrides.append(["", "file", name])
                elif key == "python":
                    overrides += self._python(value)
                elif key != "dataId":
                    overrides.append([key, "yaml", value])
        if overrides:
            row["config"] = overrides
        return row

    def _python(self, text: str) -> list[list[str]]:
        """Return what a block of Python assigns, with the full names of the tasks that it puts in place."""
        body = ast.parse(text).body
        imported = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        rows = assignments(body, "config", ("parameters",))
        for row in rows:
            if row[1] == "retarget":
                row[2] = self.configs.add_task(self.sources.find(imported.get(row[2], row[2])))
        return rows

    def override_file(self, location: str, prefix: str = "") -> list[list[str]]:
        """Return what a file of overrides assigns, files that it loads included."""
        variable, _, path = location.replace("${", "$").replace("}", "").removeprefix("$").partition("/")
        file = self.sources.root / package_of(variable) / path
        if not file.is_file():
            return []
        found = []
        for name, operator, value in assignments(ast.parse(self.sources.read(file)).body, "config"):
            if operator == "load":
                nested = f"{os.path.dirname(location)}/{value}"
                found += self.override_file(nested, f"{prefix}{name}." if name else prefix)
            elif operator != "retarget":
                found.append([prefix + name, operator, value])
        return found


def instrument_overrides(pipelines: Pipelines, folder: str) -> dict[str, list]:
    """Return the camera's own overrides of the tasks taken in, by the task's default name.

    Parameters
    ----------
    pipelines : `Pipelines`
        What was taken in.
    folder : `str`
        Where the camera keeps them, ``$OBS_DECAM_DIR/config``.
    """
    found = {}
    for task in pipelines.configs.tasks.values():
        if (name := task.get("name")) and (rows := pipelines.override_file(f"{folder}/{name}.py")):
            found[name] = rows
    return dict(sorted(found.items()))
