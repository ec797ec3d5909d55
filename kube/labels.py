"""Labels of metrics, such that the number of series does not grow with what a program has seen."""

from __future__ import annotations

MAX_VALUES = 50
"""Most values of a label whose values come from outside."""
OTHER = "other"
FAST_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5, 1, 2, 4, 8, 16)
"""Upper bounds of the buckets of latencies, seconds."""


class Bounded:
    """Values of a label: the first MAX_VALUES are told apart."""

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def value(self, text: str) -> str:
        """Return the text, or OTHER where there are too many."""
        if text not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(text)
        return text


def resource_of(path: str) -> str:
    """Return the plural in a path of the API, with its subresource: `pods/binding`; names are left out."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join([*parts[:1], *parts[2:3]]) or OTHER
