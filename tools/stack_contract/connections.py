"""Connections classes: datasets, storage classes, dimensions, templates, and what a configuration changes of them."""

import ast
import re

from configs import Configs, argument
from sources import Definition, Sources
from values import OPAQUE, source_of

KINDS = ("Input", "Output", "PrerequisiteInput", "InitInput", "InitOutput")
FLAGS = ("multiple", "isCalibration", "deferLoad", "minimum", "deferGraphConstraint", "deferBinding")


def _list(node: ast.expr | None) -> list[str] | None:
    """Return the strings of a literal collection, sorted; `None` if it is none."""
    if node is None:
        return None
    try:
        return sorted(ast.literal_eval(node))
    except ValueError:
        return None


class Connections:
    """Collects connections classes.

    Parameters
    ----------
    sources : `Sources`
        The checkouts.
    configs : `Configs`
        Where the configuration classes name their connections.
    """

    def __init__(self, sources: Sources, configs: Configs) -> None:
        self.sources, self.configs = sources, configs
        self.connections: dict[str, dict] = {}

    def add(self, found: Definition | str) -> str:
        """Take in a connections class with its bases; return its full name."""
        name = self.configs.name(found)
        if not isinstance(found, Definition) or name in self.connections:
            return name
        row = self.connections[name] = {}
        row["bases"] = [self.add(self.sources.resolve(found.module, b)) for b in found.node.bases]
        for keyword in found.node.keywords:
            if keyword.arg == "dimensions" and (dimensions := _list(self._value(found, keyword.value))) is not None:
                row["dimensions"] = dimensions
            elif keyword.arg == "defaultTemplates":
                row["templates"] = ast.literal_eval(self._value(found, keyword.value))
        members = {}
        for node in found.node.body:
            is_call = isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            if is_call and (member := self._member(found, node.value)):
                members[node.targets[0].id] = member
        row["members"] = members
        for node in found.node.body:
            is_init = isinstance(node, ast.FunctionDef) and node.name == "__init__"
            if is_init and (changes := _changes(node.body, [])):
                row["changes"] = changes
        return name

    def _value(self, owner: Definition, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Name):
            return owner.module.constants.get(node.id, node)
        return node

    def _text(self, owner: Definition, node: ast.expr) -> str:
        """Return a literal, or the class constant that stands for it."""
        if isinstance(node, ast.Attribute):
            holder = self.sources.resolve(owner.module, node.value)
            if isinstance(holder, Definition) and (found := self.sources.class_attribute(holder, node.attr)):
                return ast.literal_eval(found[1])
        return ast.literal_eval(node)

    def _member(self, owner: Definition, call: ast.Call) -> list | None:
        """Return a connection: kind, dataset type, storage class, dimensions, flags."""
        kind = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if kind not in KINDS:
            return None
        flags = {}
        for flag in FLAGS:
            if (value := argument(call, flag)) is not None and isinstance(value, ast.Constant):
                flags[flag] = value.value
        if (lookup := argument(call, "lookupFunction")) is not None:
            flags["lookup"] = ast.unparse(lookup)
        name = argument(call, "name", 0)
        storage_class = argument(call, "storageClass", 1)
        return [
            kind, self._text(owner, name), self._text(owner, storage_class),
            _list(argument(call, "dimensions")) or [], flags,
        ]  # fmt: skip


_MAP = re.compile(r"property_maps\['(\w+)'\]\.do_(\w+)$")


def property_maps(defaults: list[list[str]]) -> dict[str, list]:
    """Return the outputs that HealSparsePropertyMapConnections makes in a loop, one for each map that is switched on.

    Parameters
    ----------
    defaults : `list` [`list` [`str`]]
        What the configuration's ``setDefaults`` assigns.
    """
    on = [match.groups() for path, _, value in defaults if value == "True" and (match := _MAP.match(path))]
    return {
        f"{name}_map_{how}": [
            "Output", f"{{coaddName}}Coadd_{name}_map_{how}", "HealSparseMap", ["band", "skymap", "tract"], {}
        ]
        for name, how in on
    }  # fmt: skip


def _condition(node: ast.expr) -> str:
    return ast.unparse(node).replace("self.config", "config")


def _renamed(node: ast.expr, name: str, expression: str) -> str:
    """Return an expression in which another stands for a name."""
    replacement = ast.parse(expression, mode="eval").body

    class _Replace(ast.NodeTransformer):
        def visit_Name(self, found: ast.Name) -> ast.expr:
            return replacement if found.id == name else found

    return ast.unparse(_Replace().visit(node))


def _changes(statements: list[ast.stmt], conditions: list[str]) -> list[list[str]]:
    """Return what a connections class' ``__init__`` changes: operation, connection, value, condition."""
    found = []
    condition = " and ".join(f"({c})" for c in conditions)
    for node in statements:
        if isinstance(node, ast.If):
            test = _condition(node.test)
            found += _changes(node.body, [*conditions, test])
            found += _changes(node.orelse, [*conditions, f"not ({test})"])
        elif isinstance(node, ast.Match):
            subject, before = _condition(node.subject), []
            for case in node.cases:
                if isinstance(case.pattern, ast.MatchValue):
                    test = f"{subject} == {ast.unparse(case.pattern.value)}"
                    found += _changes(case.body, [*conditions, test])
                    before.append(test)
                elif isinstance(case.pattern, ast.MatchAs) and case.pattern.name and case.guard is not None:
                    guard = _renamed(case.guard, case.pattern.name, subject)
                    found += _changes(case.body, [*conditions, *(f"not ({b})" for b in before), guard])
                    before.append(guard)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    found.append(["remove", target.attr, "", condition])
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            function = ast.unparse(call.func).removeprefix("self.")
            if function.endswith((".remove", ".discard")) and len(call.args) == 1:
                if function.startswith("dimensions."):
                    found.append(["dimensions-", "", ast.unparse(call.args[0]), condition])
                else:
                    found.append(["remove", ast.literal_eval(call.args[0]), "", condition])
            elif function in ("dimensions.add", "dimensions.update"):
                found.append(["dimensions+", "", _condition(call.args[0]), condition])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            name = node.targets[0].attr
            if name == "dimensions":
                found.append(["dimensions=", "", _condition(node.value), condition])
            elif isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith("replace"):
                for keyword in node.value.keywords:
                    value = source_of(keyword.value, ("config", "self"))
                    if value != OPAQUE:
                        found.append([f"replace {keyword.arg}", name, _condition(keyword.value), condition])
    return found
