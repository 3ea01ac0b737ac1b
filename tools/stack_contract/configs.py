"""Configuration classes: their fields, and what their ``setDefaults`` assigns."""

import ast

from sources import Definition, Sources
from values import OPAQUE, assignments, source_of

KINDS = {
    "Field": "field", "RangeField": "field", "ChoiceField": "field", "ListField": "list", "DictField": "dict",
    "ConfigField": "config", "ConfigurableField": "task", "make_field": "config",
}  # fmt: skip
"""Kinds of fields by the call that makes them; any other call makes a field whose content is open."""
OPEN = "open"


def argument(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is not None and len(call.args) > position:
        return call.args[position]
    return None


class Configs:
    """Collects the configuration classes that tasks lead to.

    Parameters
    ----------
    sources : `Sources`
        The checkouts.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.configs: dict[str, dict] = {}
        self.tasks: dict[str, dict] = {}

    def name(self, found: Definition | str) -> str:
        """Return the full name of what a name resolved to."""
        return found.path if isinstance(found, Definition) else found

    def add_task(self, found: Definition | str) -> str:
        """Take in a task or subtask with its configuration; return its full name."""
        name = self.name(found)
        if not isinstance(found, Definition) or name in self.tasks:
            return name
        row = self.tasks[name] = {}
        if (label := self.sources.class_attribute(found, "_DefaultName")) and isinstance(label[1], ast.Constant):
            row["name"] = label[1].value
        if (config := self.sources.class_attribute(found, "ConfigClass")) is not None:
            row["config"] = self.add_config(self.sources.resolve(config[0].module, config[1]))
        return name

    def add_config(self, found: Definition | str) -> str:
        """Take in a configuration class with all that its fields lead to; return its full name."""
        name = self.name(found)
        if not isinstance(found, Definition) or name in self.configs:
            return name
        row = self.configs[name] = {}
        row["bases"] = [self.add_config(self.sources.resolve(found.module, b)) for b in found.node.bases]
        for keyword in found.node.keywords:
            if keyword.arg == "pipelineConnections":
                row["connections"] = self.name(self.sources.resolve(found.module, keyword.value))
        fields = {}
        for node in found.node.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and (field := self._field(found, node.value)):
                    fields[target.id] = field
        row["fields"] = fields
        for node in found.node.body:
            is_defaults = isinstance(node, ast.FunctionDef) and node.name == "setDefaults" and node.args.args
            if is_defaults and (rows := self._set(found, node)):
                row["set"] = rows
        return name

    def _set(self, owner: Definition, node: ast.FunctionDef) -> list[list[str]]:
        rows = []
        for path, operator, value in assignments(node.body, node.args.args[0].arg):
            if operator == "retarget":
                value = self.add_task(self.sources.resolve(owner.module, value))
            if operator != "load":
                rows.append([path, operator, value])
        return rows

    def _field(self, owner: Definition, call: ast.Call) -> list | None:
        """Return a field: kind, type, default, options; `None` if the call makes none."""
        maker = call.func.value if isinstance(call.func, ast.Subscript) else call.func  # Field[str](…)
        last = maker.attr if isinstance(maker, ast.Attribute) else getattr(maker, "id", "")
        if last == "property":  # `algorithms` stands for the plug-ins that are switched on
            return [OPEN]
        if not last.endswith(("Field", "_field")):
            return None
        kind = KINDS.get(last, OPEN)
        if last == "make_config_field":  # a dimension packer's own configuration
            packer = self.sources.resolve(owner.module, maker.value)
            config = isinstance(packer, Definition) and self.sources.class_attribute(packer, "ConfigClass")
            return ["config", self.add_config(self.sources.resolve(config[0].module, config[1]))] if config else [OPEN]
        if last == "make_field" and isinstance(maker, ast.Attribute):
            return [kind, self.add_config(self.sources.resolve(owner.module, maker.value))]
        resolve = self.sources.resolve
        if kind == OPEN:
            return [kind]
        if kind == "task":
            target = argument(call, "target", 1)
            return [kind, self.add_task(resolve(owner.module, target))] if target is not None else [OPEN]
        if kind == "config":
            dtype = argument(call, "dtype", 1)
            return [kind, self.add_config(resolve(owner.module, dtype))] if dtype is not None else [OPEN]
        if kind == "dict":
            types = [argument(call, "keytype", 1), argument(call, "itemtype", 2)]
            dtype = ",".join(ast.unparse(t) if t is not None else OPAQUE for t in types)
        else:
            subscript = call.func.slice if isinstance(call.func, ast.Subscript) else None
            node = argument(call, "dtype", 1)
            node = subscript if node is None else node
            dtype = ast.unparse(node) if node is not None else OPAQUE
        default = source_of(argument(call, "default"))
        if default == OPAQUE and isinstance(argument(call, "default"), ast.Name):
            default = source_of(owner.module.constants.get(argument(call, "default").id)) or OPAQUE
        options = {}
        optional, allowed = argument(call, "optional"), argument(call, "allowed")
        if isinstance(optional, ast.Constant) and optional.value is True:
            options["optional"] = True
        if isinstance(allowed, ast.Dict) and all(isinstance(k, ast.Constant) for k in allowed.keys):
            options["allowed"] = [k.value for k in allowed.keys]
        return [kind, dtype, default, *([options] if options else [])]
