"""Node selectors, as the scheduler evaluates them (component-helpers, scheduling/corev1/nodeaffinity)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kube.objects import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm

NODE_NAME_FIELD = "metadata.name"
"""The one field of a node that can be selected."""

_INTEGER = re.compile(r"[+-]?[0-9]+")


def selects(selector: NodeSelector | None, name: str, labels: Mapping[str, str]) -> bool:
    """Whether the node called `name` meets a term of `selector`; no selector selects every node."""
    return selector is None or any(_meets(term, name, labels) for term in selector.node_selector_terms)


def single_node(selector: NodeSelector | None) -> str:
    """Return the node that `selector` names as the only one, empty where it is not of that form."""
    if selector is None or len(selector.node_selector_terms) != 1:
        return ""
    (term,) = selector.node_selector_terms
    if term.match_expressions or len(term.match_fields) != 1:
        return ""
    (field,) = term.match_fields
    named = field.key == NODE_NAME_FIELD and field.operator == "In" and len(field.values) == 1
    return field.values[0] if named else ""


def _meets(term: NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {NODE_NAME_FIELD: name}
    return all(each.key in fields and _holds(each, fields) for each in term.match_fields) and all(
        _holds(each, labels) for each in term.match_expressions
    )


def _holds(requirement: NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    """Whether a requirement holds. One that the API server would not have stored selects nothing."""
    value = values.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" if value is not None and len(requirement.values) == 1:
            return _compared(value, requirement.values[0], greater=requirement.operator == "Gt")
    return False


def _compared(value: str, bound: str, *, greater: bool) -> bool:
    if not (_INTEGER.fullmatch(value) and _INTEGER.fullmatch(bound)):
        return False
    return int(value) > int(bound) if greater else int(value) < int(bound)
