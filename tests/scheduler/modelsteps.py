"""What may happen in the model, and how often each is tried."""

from __future__ import annotations

from typing import Any

NODES = {"n0": ("a0", "a1"), "n1": ("b0", "b1")}
SHAPES: list[dict[str, Any]] = [
    {"own": 1},
    {"own": 2},
    {"shared": 1},
    {"own": 1, "shared": 1},
]
RENEW_S, LEASE_S = 10.0, 15.0
PLACE = ["new"] * 3 + ["again"] * 3 + ["new and unheard", "decide", "bind late", "by the old leader"]
MAX_PENDING = 4
NETWORK = ["first"] * 6 + [
    "last",
    "last",
    "any",
    "slow",
    "no answer",
    "time out",
    "lose write",
    "lose write",
    "all",
    "lost",
]
HEAR = ["all"] * 3 + ["claims", "pods"]
TROUBLE = [
    "delete pod",
    "delete pod",
    "replace claim",
    "collect",
    "crash",
    "fail over",
    "fail over",
    "give lease back",
    "give lease back",
    "read lease",
    "relist",
    "time",
    "time",
]
STEPS = (
    [("place", form) for form in PLACE]
    + [("network", form) for form in NETWORK * 3]
    + [("hear", form) for form in HEAR]
    + [("trouble", form) for form in TROUBLE]
)
