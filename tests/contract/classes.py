"""Stand-ins of the stack's classes, made from the contract: real configurations and connections, no algorithms."""

import dataclasses
import importlib
import json
import os
import types
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import lsst.pex.config as pex
import lsst.pipe.base as pipe_base
from contract.faults import fail_if_asked
from lsst.pipe.base import connectionTypes

CONTRACT = Path(os.environ.get("PROC_DECAM_STACK_CONTRACT") or Path(__file__).with_name("v30.json"))
"""The release to test with; the variable names what the tool has written of another one."""
_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
_MIDDLEWARE = ("lsst.pex.config.", "lsst.pipe.base.")
_NAMES = {"__builtins__": {n: __builtins__[n] for n in ("float", "set", "list", "tuple", "dict", "frozenset")}}


@cache
def contract() -> dict:
    """Return the contract."""
    return json.loads(CONTRACT.read_text())


class Open:
    """The content of a field that the contract does not describe (registries of plug-ins): takes anything.

    Items are remembered, attributes are not.
    """

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "_parts", values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._parts.setdefault(name, Open())

    def __setattr__(self, name: str, value: Any) -> None: ...

    __getitem__ = __getattr__

    def __setitem__(self, name: str, value: Any) -> None:
        self._parts[name] = value

    def __call__(self, *args: Any, **kwargs: Any) -> "Open":
        return self

    def __bool__(self) -> bool:
        return False

    def __contains__(self, item: Any) -> bool:
        return False

    def __iter__(self):
        return iter(())

    def __ior__(self, other: Any) -> "Open":
        return self

    __iadd__ = __ior__


class OpenField(pex.Field):
    """A field whose content is open."""

    def __init__(self) -> None:
        self._setup("open", Open, None, None, True, None, None)

    def __get__(self, instance, owner=None, at=None, label="default"):
        if instance is None:
            return self
        return instance._storage.setdefault(self.name, Open())

    def __set__(self, instance, value, at=None, label="assignment"):
        self.__get__(instance)

    def rename(self, instance): ...

    def validate(self, instance): ...

    def save(self, outfile, instance): ...

    def toDict(self, instance):
        return None

    def _compare(self, instance1, instance2, shortcut, rtol, atol, output):
        return True


def value(expression: str, **names: Any) -> Any:
    """Return what an expression of the contract stands for."""
    return eval(expression, _NAMES, names)


def assign(config: pex.Config, path: str, operator: str, expression: str) -> None:
    """Do what an assignment of the contract says."""
    if operator == "retarget":
        exec(f"config.{path}.retarget(task)", {"config": config, "task": build(expression)})
    elif operator in ("=", "+=", "|="):
        exec(f"config.{path} {operator} {expression}", dict(_NAMES), {"config": config})
    else:
        exec(f"config.{path}.{operator}({expression})", dict(_NAMES), {"config": config})


def _field(row: list) -> pex.Field:
    kind, *rest = row
    if kind == "task":
        known = rest[0] in contract()["tasks"]
        return pex.ConfigurableField("stand-in", target=build(rest[0])) if known else OpenField()
    if kind == "config":
        return pex.ConfigField("stand-in", dtype=build(rest[0])) if rest[0] in contract()["configs"] else OpenField()
    if kind == "open" or "?" in rest[0]:
        return OpenField()
    dtype, default, options = rest[0], rest[1], rest[2] if len(rest) > 2 else {}
    arguments = {
        "default": None if default in (None, "?") else value(default),
        # a required value without default may be set by code that the contract does not hold
        "optional": options.get("optional", False) or default in (None, "None", "?"),
    }
    if kind == "dict":
        key, item = (_TYPES[t] for t in dtype.split(","))
        return pex.DictField("stand-in", keytype=key, itemtype=item, **arguments)
    if kind == "list":
        return pex.ListField("stand-in", dtype=_TYPES[dtype], **arguments)
    if "allowed" in options:
        allowed = dict.fromkeys(options["allowed"], "stand-in")
        return pex.ChoiceField("stand-in", dtype=_TYPES[dtype], allowed=allowed, **arguments)
    return pex.Field("stand-in", dtype=_TYPES[dtype], **arguments)


def _config(path: str, row: dict) -> type:
    known = [b for b in row["bases"] if b in contract()["configs"] or b.startswith(_MIDDLEWARE)]
    bases = tuple(build(b) for b in known) or (pex.Config,)  # a base outside of the sources: only of tasks left out
    keywords = {}
    if "connections" in row:
        keywords["pipelineConnections"] = build(row["connections"])

    def set_defaults(self) -> None:
        super(cls, self).setDefaults()
        for assignment in row.get("set", []):
            assign(self, *assignment)

    def body(namespace: dict) -> None:
        namespace |= {name: _field(field) for name, field in row["fields"].items()}
        namespace["setDefaults"] = set_defaults

    cls = types.new_class(path.rsplit(".", 1)[1], bases, keywords, body)
    return cls


def _connections(path: str, row: dict) -> type:
    keywords = {"dimensions": row["dimensions"]} if "dimensions" in row else {}
    if "templates" in row:
        keywords["defaultTemplates"] = row["templates"]

    def init(self, *, config=None) -> None:
        super(cls, self).__init__(config=config)
        for operation, name, expression, condition in row.get("changes", []):
            if not condition or value(condition, config=config):
                _change(self, operation, name, expression, config)

    def body(namespace: dict) -> None:
        for name, (kind, dataset_type, storage_class, dimensions, flags) in row["members"].items():
            options = dict(flags)
            if lookup := options.pop("lookup", None):
                options["lookupFunction"] = LOOKUPS[lookup]
            if not kind.startswith("Init"):
                options["dimensions"] = dimensions
            make = getattr(connectionTypes, kind)
            namespace[name] = make(name=dataset_type, storageClass=storage_class, doc="stand-in", **options)
        namespace["__init__"] = init

    cls = types.new_class(path.rsplit(".", 1)[1], tuple(build(b) for b in row["bases"]), keywords, body)
    return cls


def _change(connections, operation: str, name: str, expression: str, config) -> None:
    if operation == "remove":
        if hasattr(connections, name):
            delattr(connections, name)
        return
    new = value(expression, config=config)
    if operation == "dimensions=":
        connections.dimensions = set(new)
    elif operation.startswith("dimensions"):
        change = connections.dimensions.update if operation.endswith("+") else connections.dimensions.difference_update
        change([new] if isinstance(new, str) else new)
    else:
        field = operation.removeprefix("replace ")
        new = tuple(new) if field == "dimensions" else new
        setattr(connections, name, dataclasses.replace(getattr(connections, name), **{field: new}))


_looked_up: WeakKeyDictionary = WeakKeyDictionary()


def _same_exposure(dataset_type, registry, data_id, collections):
    """All detectors of a quantum's exposure: what crosstalk reads. Looked up once for the detectors of an exposure."""
    exposure = data_id.subset(registry.dimensions.conform(["instrument", "exposure"]))
    known = _looked_up.setdefault(registry, {})
    key = (dataset_type.name, exposure, tuple(collections))
    if key not in known:
        found = registry.queryDatasets(dataset_type, collections=collections, dataId=exposure, findFirst=True)
        records = {name: exposure.records[name] for name in exposure.dimensions.elements}
        known[key] = [ref.expanded(registry.expandDataId(ref.dataId, records=records)) for ref in set(found)]
    return known[key]


LOOKUPS = {"crosstalkSourceLookup": _same_exposure}
"""Stand-ins of the functions that find a prerequisite."""


class StandInTask(pipe_base.PipelineTask):
    """Reads its inputs, and writes which RUNs they are from and which mask planes they have: enough to run a graph."""

    ConfigClass = pipe_base.PipelineTaskConfig
    _DefaultName = "standIn"

    def __init__(self, *, config=None, log=None, initInputs=None, **kwargs: Any) -> None:
        super().__init__(config=config, log=log, initInputs=initInputs, **kwargs)
        for name in config.connections.ConnectionsClass(config=config).initOutputs:
            setattr(self, name, {"task": self.getName(), "schema": name})

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        fail_if_asked(self.getName(), butlerQC.quantum.dataId)
        read, values = {}, []
        for name, refs in inputRefs:
            many = refs if isinstance(refs, list) else [refs]
            # deferred ones come as handles
            values += [butlerQC.get(ref) for ref in many]
            read[name] = sorted({(ref.datasetRef if hasattr(ref, "datasetRef") else ref).run for ref in many})
        planes = sorted({plane for v in values if isinstance(v, dict) for plane in v.get("planes", ())})
        for _, refs in outputRefs:
            for ref in refs if isinstance(refs, list) else [refs]:
                made = {"task": self.getName(), "read": read, "planes": planes}
                butlerQC.put(ref.datasetType.storageClass.pytype(made), ref)


def _task(path: str, row: dict) -> type:
    config = build(row["config"])
    base = StandInTask if issubclass(config, pipe_base.PipelineTaskConfig) else pipe_base.Task
    name = path.rsplit(".", 1)[1]
    return type(name, (base,), {"ConfigClass": config, "_DefaultName": row.get("name", name)})


_built: dict[str, type] = {}


def build(path: str) -> type:
    """Return the stand-in of a class; a class of the middleware is the real one.

    Raises
    ------
    KeyError
        If the contract has no such class.
    """
    if path in _built:
        return _built[path]
    module, name = path.rsplit(".", 1)
    if path.startswith(_MIDDLEWARE):
        return getattr(importlib.import_module(module), name)
    data = contract()
    for section, make in (("tasks", _task), ("configs", _config), ("connections", _connections)):
        if path in data[section]:
            cls = _built[path] = make(path, data[section][path])
            cls.__module__ = module
            # The middleware looks up modules of configurations, and saves an import only of what is imported.
            importlib.import_module(module)
            return cls
    raise KeyError(f"the contract has no {path}")


def define(module: str) -> dict[str, type]:
    """Return the classes of a module, and those that it passes on."""
    data = contract()
    names = [n for s in ("tasks", "configs", "connections") for n in data[s]]
    own = {n.rsplit(".", 1)[1]: build(n) for n in names if n.rsplit(".", 1)[0] == module}
    aliases = {n.rsplit(".", 1)[1]: full for n, full in data["aliases"].items() if n.rsplit(".", 1)[0] == module}
    return own | {name: build(full) for name, full in aliases.items()}


def modules() -> set[str]:
    """Return the modules that the contract has classes of."""
    data = contract()
    names = [n for s in ("tasks", "configs", "connections") for n in data[s]] + list(data["aliases"])
    return {n.rsplit(".", 1)[0] for n in names}
