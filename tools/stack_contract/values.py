"""Values and assignments as data: what of them can be told without running anything."""

import ast
from collections.abc import Iterable

OPAQUE = "?"
"""Stands for a default that only running the code would tell."""
_CALLS = {"float", "set", "list", "tuple", "dict", "frozenset"}
_NUMBERS = {"np.nan", "numpy.nan", "np.inf", "numpy.inf", "math.nan", "math.inf"}


def is_plain(node: ast.expr, names: Iterable[str] = ()) -> bool:
    """Return whether a value is made of literals, and of attributes of the given names, alone."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id not in {*names, *_CALLS, "np", "numpy", "math"}:
            return False
        if isinstance(part, ast.Call) and not (isinstance(part.func, ast.Name) and part.func.id in _CALLS):
            return False
        if isinstance(part, ast.Lambda | ast.comprehension | ast.JoinedStr | ast.Await | ast.NamedExpr):
            return False
        if isinstance(part, ast.Attribute):
            root = part
            while isinstance(root, ast.Attribute):
                root = root.value
            text = ast.unparse(part)
            if not (isinstance(root, ast.Name) and (root.id in names or text in _NUMBERS)):
                return False
    return True


def source_of(node: ast.expr | None, names: Iterable[str] = ()) -> str | None:
    """Return a value's expression, `OPAQUE` if it is not plain, `None` if there is none."""
    if node is None:
        return None
    if not is_plain(node, names):
        return OPAQUE
    text = ast.unparse(node)
    for name in sorted(_NUMBERS):
        text = text.replace(name, f"float('{name.split('.')[1]}')")
    return text


def path_below(node: ast.expr, root: str) -> str | None:
    """Return the path of an attribute below a name (``subtask.field``), or `None` if it is not below it."""
    text = ast.unparse(node)
    return text.removeprefix(root + ".") if text.startswith(root + ".") else None


def assignments(statements: Iterable[ast.stmt], root: str, names: Iterable[str] = ()) -> list[list[str]]:
    """Return what statements assign below a name, as far as it can be told.

    Parameters
    ----------
    statements : `~collections.abc.Iterable` [`ast.stmt`]
        A function's or a file's; what lies within conditions and loops is left out.
    root : `str`
        ``self`` or ``config``.
    names : `~collections.abc.Iterable` [`str`], optional
        Other names that a value may use.

    Returns
    -------
    found : `list` [`list` [`str`]]
        Path, operator (``=``, ``+=``, ``|=``, ``append``, ``update``, ``retarget``, ``load``), value.
    """
    found = []
    for node in statements:
        if isinstance(node, ast.Assign | ast.AugAssign):
            target = node.targets[-1] if isinstance(node, ast.Assign) else node.target
            operator = "="
            if isinstance(node, ast.AugAssign):
                operator = {ast.Add: "+=", ast.BitOr: "|="}.get(type(node.op), "")
            path = path_below(target, root)
            if path and operator and (value := source_of(node.value, names)) not in (None, OPAQUE):
                found.append([path, operator, value])
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if path_below(call.func, root) is None or len(call.args) != 1 or call.keywords:
                continue
            path, _, method = path_below(call.func, root).rpartition(".")
            if path and method in ("append", "update", "extend", "remove"):
                if (value := source_of(call.args[0], names)) != OPAQUE:
                    found.append([path, method, value])
            elif method == "retarget":
                found.append([path, method, ast.unparse(call.args[0])])
            elif method == "load":
                files = [n.value for n in ast.walk(call.args[0]) if isinstance(n, ast.Constant)]
                found += [[path, method, f] for f in files if isinstance(f, str) and f.endswith(".py")]
    return found
