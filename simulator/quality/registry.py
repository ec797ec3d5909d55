"""All suites, in the order of the tables. A new one is a module and a line here."""

from __future__ import annotations

from simulator.quality import fillsuite, linksuite, migsuites, mixedsuite, queuesuite
from simulator.quality.suite import Suite
from topology.errors import InvalidInputError

ALL = "all"

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        linksuite.LINKS,
        migsuites.STATIC,
        migsuites.DYNAMIC,
        migsuites.OPENED,
        queuesuite.QUEUE,
        mixedsuite.MIXED,
        fillsuite.FILL,
    )
}


def chosen(word: str) -> tuple[str, ...]:
    """Return the suites meant by a name (`M2`), a letter (`M`) or `all`. Raises InvalidInputError."""
    found = tuple(suite.name for suite in SUITES.values() if word in (ALL, suite.letter, suite.name))
    if not found:
        letters = dict.fromkeys(suite.letter for suite in SUITES.values())
        known = ", ".join(dict.fromkeys((*letters, *SUITES)))
        raise InvalidInputError("suite", repr(word), f"is unknown; choose from {known} or {ALL}")
    return found
