"""Checked-out sources of the stack: where a module lies, and what a name in it means. Nothing is imported."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Definition:
    """A class found in the sources.

    Attributes
    ----------
    module : `Module`
        Where it is defined.
    node : `ast.ClassDef`
        Its definition.
    """

    module: "Module"
    node: ast.ClassDef

    @property
    def path(self) -> str:
        """Module and class name."""
        return f"{self.module.name}.{self.node.name}"


class Module:
    """One Python file.

    Parameters
    ----------
    name : `str`
        Dotted name.
    file : `~pathlib.Path`
        The file; ``__init__.py`` for a package.
    """

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.file.read_bytes(), filename=str(self.file))

    @cached_property
    def _top_level(self) -> list[ast.stmt]:
        """All statements at the top, those within ``if`` and ``try`` included."""
        found, queue = [], list(self.tree.body)
        while queue:
            node = queue.pop(0)
            found.append(node)
            for part in ("body", "orelse", "handlers", "finalbody"):
                if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
                    queue += getattr(node, part, [])
        return found

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """Classes by name."""
        return {n.name: n for n in self._top_level if isinstance(n, ast.ClassDef)}

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """Values assigned to plain names."""
        return {
            n.targets[0].id: n.value
            for n in self._top_level
            if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Name)
        }

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        package = parts if self.file.name == "__init__.py" else parts[:-1]
        package = package[: len(package) - node.level + 1]
        return ".".join([*package, *([node.module] if node.module else [])])

    @cached_property
    def imports(self) -> dict[str, str]:
        """Dotted names by the names that they are imported as."""
        found = {}
        for node in self._top_level:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        found[alias.asname] = alias.name
                    else:
                        found[alias.name.split(".")[0]] = alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name != "*":
                        found[alias.asname or alias.name] = f"{self._absolute(node)}.{alias.name}"
        return found

    @cached_property
    def stars(self) -> list[str]:
        """Modules of which everything is imported."""
        return [
            self._absolute(n)
            for n in self._top_level
            if isinstance(n, ast.ImportFrom) and any(a.name == "*" for a in n.names)
        ]


class Sources:
    """A folder that holds one checkout for each package.

    Parameters
    ----------
    root : `~pathlib.Path`
        ``root/{package}/python/lsst/…``.
    packages : `~collections.abc.Iterable` [`str`]
        Those to look into; others in the folder are left alone.
    """

    def __init__(self, root: Path, packages: Iterable[str]) -> None:
        self.root = root
        self.used: set[Path] = set()
        self._modules: dict[str, Module] = {}
        for package in (root / name for name in sorted(packages)):
            for file in sorted((package / "python").rglob("*.py")):
                parts = list(file.relative_to(package / "python").with_suffix("").parts)
                if parts[-1] == "__init__":
                    parts.pop()
                self._modules.setdefault(".".join(parts), Module(".".join(parts), file))

    def module(self, name: str) -> Module | None:
        """Return a module, noting that it was read; `None` if no checkout holds it."""
        module = self._modules.get(name)
        if module is not None:
            self.used.add(module.file)
        return module

    def read(self, path: Path) -> str:
        """Return the text of another file, noting that it was read."""
        self.used.add(path)
        return path.read_text()

    def _known(self, modules: Iterable[str]) -> list[str]:
        return [name for name in modules if name in self._modules]

    def find(self, dotted: str, _seen: frozenset = frozenset()) -> Definition | str:
        """Return the class that a full dotted name means, or the name itself where no checkout defines it."""
        if dotted in _seen:
            return dotted
        seen = _seen | {dotted}
        parts = dotted.split(".")
        for n in range(len(parts) - 1, 0, -1):
            module = self.module(".".join(parts[:n])) if ".".join(parts[:n]) in self._modules else None
            if module is None:
                continue
            first, rest = parts[n], parts[n + 1 :]
            if first in module.classes:
                return self._within(Definition(module, module.classes[first]), rest)
            if first in module.imports:
                return self.find(".".join([module.imports[first], *rest]), seen)
            if first in module.constants and isinstance(module.constants[first], ast.Name | ast.Attribute):
                return self.find(".".join([module.name, ast.unparse(module.constants[first]), *rest]), seen)
            for star in self._known(module.stars):
                if isinstance(found := self.find(".".join([star, first, *rest]), seen), Definition):
                    return found
            return dotted
        return dotted

    def _within(self, definition: Definition, attributes: list[str]) -> Definition | str:
        """Return the class that an attribute of a class means (``CoaddBaseTask.ConfigClass``)."""
        if not attributes:
            return definition
        if len(attributes) == 1 and (found := self.class_attribute(definition, attributes[0])):
            return self.resolve(found[0].module, found[1])
        return ".".join([definition.path, *attributes])

    def resolve(self, module: Module, name: ast.expr | str) -> Definition | str:
        """Return the class that a name in a module means, or its full dotted name if it is defined elsewhere."""
        text = name if isinstance(name, str) else ast.unparse(name)
        first, *rest = text.split(".")
        if first in module.classes:
            return self._within(Definition(module, module.classes[first]), rest)
        if first in module.imports:
            return self.find(".".join([module.imports[first], *rest]))
        if first in module.constants:
            return self.find(f"{module.name}.{text}")
        for star in self._known(module.stars):
            if isinstance(found := self.find(".".join([star, text])), Definition):
                return found
        return text

    def lineage(self, definition: Definition) -> Iterator[Definition]:
        """Yield a class and the bases that the sources define, in the order in which attributes are looked up."""
        yield definition
        for base in definition.node.bases:
            if isinstance(found := self.resolve(definition.module, base), Definition):
                yield from self.lineage(found)

    def class_attribute(self, definition: Definition, attribute: str) -> tuple[Definition, ast.expr] | None:
        """Return where in its lineage a class sets an attribute, and to what."""
        for owner in self.lineage(definition):
            for node in owner.node.body:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    for target in targets:
                        if isinstance(target, ast.Name) and target.id == attribute:
                            return owner, node.value
        return None

    def hashes(self) -> dict[str, tuple[int, str]]:
        """Return number and SHA-256 of the files that were read, by package: paths and contents, sorted."""
        found: dict[str, list[Path]] = {}
        for file in self.used:
            found.setdefault(file.relative_to(self.root).parts[0], []).append(file)
        result = {}
        for package, files in sorted(found.items()):
            digest = hashlib.sha256()
            for file in sorted(files):
                digest.update(f"{file.relative_to(self.root).as_posix()}\0".encode())
                digest.update(file.read_bytes())
            result[package] = (len(files), digest.hexdigest())
        return result
