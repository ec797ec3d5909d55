"""Which type fits where, and what type parameters stand for: cel-go's rules (checker/types.go).

A mapping from type parameters to types is copied for each question, so that a failed one leaves no trace.
"""

from __future__ import annotations

from kube.cel.types import DYN, Type

Mapping = dict[Type, Type]

_NULLABLE = frozenset({"opaque", "struct", "any", "duration", "timestamp", "dyn", "null", "param"})
_NESTED = frozenset({"opaque", "list", "map"})


def is_dyn(one: Type) -> bool:
    """Whether the checker lets everything pass."""
    return one.kind in ("dyn", "any")


def is_dyn_or_error(one: Type) -> bool:
    """Whether the checker lets everything pass, or has complained already."""
    return one.kind in ("dyn", "any", "error")


def assignable(bound: Mapping, sources: list[Type], targets: list[Type]) -> Mapping | None:
    """Return what type parameters stand for when each source fits its target; None where one does not."""
    if len(sources) != len(targets):
        return None
    trial = dict(bound)
    return trial if all(_fits(trial, one, two) for one, two in zip(sources, targets, strict=True)) else None


def substitute(bound: Mapping, one: Type, *, free_to_dyn: bool = False) -> Type:
    """Replace type parameters by what they stand for; free ones by dyn where asked."""
    if one.kind == "param":
        if (found := bound.get(one)) is not None:
            return substitute(bound, found, free_to_dyn=free_to_dyn)
        return DYN if free_to_dyn else one
    if one.params:
        return Type(one.kind, one.name, tuple(substitute(bound, p, free_to_dyn=free_to_dyn) for p in one.params))
    return one


def most_general(one: Type, two: Type) -> Type:
    """Return the more general of two types that fit each other."""
    return one if _equal_or_less_specific(one, two) else two


def _fits(bound: Mapping, one: Type, two: Type) -> bool:
    if two.kind == "param":
        valid, known = _may_stand_for(bound, one, two)
        if valid or known:
            return valid
    if one.kind == "param":
        return _may_stand_for(bound, two, one)[0]
    if is_dyn_or_error(one) or is_dyn_or_error(two):
        return True
    if one.kind == "null":
        return two.kind in _NULLABLE
    if two.kind == "null":
        return one.kind in _NULLABLE
    if one.kind == "type":
        return two.kind == "type"
    if one.kind != two.kind or one.name != two.name or len(one.params) != len(two.params):
        return False
    return one.kind not in _NESTED or all(_fits(bound, p, q) for p, q in zip(one.params, two.params, strict=True))


def _may_stand_for(bound: Mapping, one: Type, free: Type) -> tuple[bool, bool]:
    """Tell whether `free` can stand for `one`, and whether it stands for something already."""
    if one == free:
        return True, True
    known = bound.get(free)
    if known is not None:
        if one == known:
            return True, True
        if not _fits(bound, one, known):
            return False, True
        general = most_general(one, known)
        if _absent(bound, free, general):
            bound[free] = general
        return True, True
    if _absent(bound, free, one):
        bound[free] = one
        return True, False
    return False, False


def _absent(bound: Mapping, free: Type, within: Type) -> bool:
    if free == within:
        return False
    if within.kind == "param":
        known = bound.get(within)
        return known is None or _absent(bound, free, known)
    return all(_absent(bound, free, part) for part in within.params)


def _equal_or_less_specific(one: Type, two: Type) -> bool:
    if is_dyn(one) or one.kind == "param":
        return True
    if is_dyn(two) or two.kind == "param" or one.kind != two.kind:
        return False
    if one.kind == "type":
        return True
    if one.kind in _NESTED:
        return (
            one.name == two.name
            and len(one.params) == len(two.params)
            and all(_equal_or_less_specific(p, q) for p, q in zip(one.params, two.params, strict=True))
        )
    return one == two
