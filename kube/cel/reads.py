"""Which attributes and capacities an expression can read, so that evaluations can be remembered by them."""

from __future__ import annotations

from kube.cel.syntax import Call, Fold, Ident, Literal, Node, Select, children

_TABLES = ("attributes", "capacity")
_FIELDS = ("driver", "allowMultipleAllocations")
_Path = tuple[str, ...]


def names_read(root: Node) -> frozenset[str] | None:
    """Return the qualified names that an expression may read; None: any."""
    found: set[str] = set()
    return frozenset(found) if _collect(root, {"device": ()}, found) else None


def _collect(node: Node, paths: dict[str, _Path], found: set[str]) -> bool:
    """Add what a node reads. False when it reads what cannot be told. `paths`: variables that stand for a path."""
    path, rest = _path(node, paths)
    if path is not None:
        if path[:1] and path[0] in _FIELDS:
            return True
        if len(path) < 3:
            return False
        found.add(f"{path[1]}/{path[2]}")
        return True
    if rest is not None:
        return _collect(rest, paths, found)
    if isinstance(node, Call) and node.function == "@in" and isinstance(node.args[0], Literal):
        path, _ = _path(node.args[1], paths)
        if path is not None and len(path) == 2 and isinstance(node.args[0].value, str):
            found.add(f"{path[1]}/{node.args[0].value}")
            return True
    if isinstance(node, Fold):
        return _collect_fold(node, paths, found)
    return all(_collect(child, paths, found) for child in children(node))


def _collect_fold(node: Fold, paths: dict[str, _Path], found: set[str]) -> bool:
    if not _collect(node.over, paths, found):
        return False
    bound, _ = _path(node.init, paths)
    inner = {name: path for name, path in paths.items() if name not in (node.accu, node.var, node.var2)}
    if bound is not None and len(bound) < 3 and bound[:1] != ("driver",):
        inner[node.accu] = bound  # cel.bind(d, device.attributes["x"], d.y)
    elif not _collect(node.init, paths, found):
        return False
    if node.var == "#unused":
        return _collect(node.result, inner, found)
    return all(_collect(part, inner, found) for part in (node.condition, node.step, node.result))


def _path(node: Node, paths: dict[str, _Path]) -> tuple[_Path | None, Node | None]:
    """Return the path from `device` that a chain of constant selections takes, deeper than 3 cut off.

    Or, for a chain whose start is not `device` but another node, None and that start if nothing else is read.
    """
    if isinstance(node, Ident):
        return paths.get(node.name.removeprefix(".")), None
    step = _step(node)
    if step is None:
        return None, None
    operand, key = step
    path, _ = _path(operand, paths)
    if path is None:
        return None, None
    if len(path) == 3:
        return path, None
    if key is None:
        return None, None
    return (*path, key), None


def _step(node: Node) -> tuple[Node, str | None] | None:
    if isinstance(node, Select):
        return node.operand, node.field
    if isinstance(node, Call) and node.function in ("_[_]", "_[?_]", "_?._"):
        key = node.args[1]
        return node.args[0], key.value if isinstance(key, Literal) and isinstance(key.value, str) else None
    return None
