"""What would be right at a path of a configuration, said from the JSON Schema alone."""

from __future__ import annotations

from typing import Any

from dra_driver.config.schema import SIZE, SIZE_WORDS, json_schema

REFERENCE = "docs/config.md has all fields"


def remedy(path: str) -> str:
    """Return what may stand at `path`, such as `$.sharing.strategy`, else of what is around it."""
    node: Any = _resolved(json_schema())
    for part in path.split(".")[1:]:
        found = node.get("properties", {}).get(part)
        if found is None:
            break
        node = _resolved(found)
    return _said(node) or REFERENCE


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference or a choice between something and null stands for."""
    if "anyOf" in node:
        node = next(each for each in node["anyOf"] if each.get("type") != "null")
    if "$ref" in node:
        found: dict[str, Any] = json_schema()["$defs"][node["$ref"].rpartition("/")[2]]
        return _resolved(found)
    return node


def _said(node: dict[str, Any]) -> str:
    if "enum" in node:
        return "write one of " + ", ".join(map(str, node["enum"])) if len(node["enum"]) > 1 else _only(node["enum"][0])
    if "properties" in node:
        return "fields here: " + ", ".join(node["properties"])
    if node.get("pattern") == SIZE:
        return f"write {SIZE_WORDS}"
    if "minimum" in node:
        kind = "a whole number" if node["type"] == "integer" else "a number"
        return f"write {kind} from {node['minimum']} to {node['maximum']}"
    return ""


def _only(value: object) -> str:
    return f"write {value}"
