"""What a request for several GPUs may wish of the links between them: the words, from a claim to the planner."""

from __future__ import annotations

from enum import StrEnum

LEAST_GBPS = 0.001
"""Set quality is kept in whole MB/s."""
MOST_GBPS = 10**6


class LinkWish(StrEnum):
    """How much a request for several GPUs cares for the links between them."""

    NONE = "none"
    PREFER = "prefer"
    REQUIRE = "require"
