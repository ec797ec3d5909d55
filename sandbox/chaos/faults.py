"""What shall go wrong, for which requests, and how often. No I/O; randomness is seeded, one stream per fault.

Faults look at a request in the order in which they were added. Delays add up; the first fault that answers or resets
has the last word.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from sandbox.chaos.apirequest import ApiRequest

REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""metav1.StatusReason of HTTP codes; a create that answers 409 says AlreadyExists instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which requests: patterns as in a shell (`*`), in RBAC's words. Nothing given means all."""

    verbs: Collection[str] = ()
    resources: Collection[str] = ()
    """Such as "pods", "pods/binding" or "resourceclaims*"."""
    groups: Collection[str] = ()
    namespaces: Collection[str] = ()
    names: Collection[str] = ()
    """Of objects. A create has its name in the body, so none matches it."""
    user_agents: Collection[str] = ()
    """Such as "kube-scheduler/*"."""

    def __post_init__(self) -> None:
        for name in ("verbs", "resources", "groups", "namespaces", "names", "user_agents"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"Match.{name} is a collection of patterns, not one text; put it in brackets")

    def accepts(self, request: ApiRequest) -> bool:
        """Whether the request is one of these."""
        pairs = (
            (self.verbs, request.verb),
            (self.resources, request.resource),
            (self.groups, request.group),
            (self.namespaces, request.namespace),
            (self.names, request.name),
            (self.user_agents, request.user_agent),
        )
        return all(not wanted or any(fnmatchcase(value, each) for each in wanted) for wanted, value in pairs)


ALL = Match()
WATCHES = Match(verbs=["watch"])


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, then go on. `math.inf` hangs until the client gives up."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Gate:
    """Wait until the test opens it, then go on: the request stays on its way while the test does something else."""

    opened: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        """Let the requests through that wait, and those that come."""
        self.opened.set()


@dataclass(frozen=True, slots=True)
class Reset:
    """Cut the connection with a TCP reset."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer in the API server's place, with a metav1.Status."""

    code: int
    retry_after_s: int | None = None
    """Header Retry-After; client-go obeys it for 429 and 5xx."""
    reason: str | None = None
    """metav1.StatusReason; by default the usual one of the code."""

    def status(self, request: ApiRequest) -> dict[str, Any]:
        """Return the metav1.Status for a request."""
        reason = self.reason or REASONS.get(self.code, "Unknown")
        if self.reason is None and self.code == 409 and request.verb == "create":
            reason = "AlreadyExists"
        details: dict[str, Any] = {"name": request.name, "group": request.group, "kind": request.resource}
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        return {
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "message": f"{self.code} by the sandbox's proxy for: {request}",
            "reason": reason,
            "details": details,
            "code": self.code,
        }


Action = Delay | Gate | Reset | Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An action for matching requests: for each, for a number of them, or for a random part."""

    match: Match = ALL
    action: Action
    forwarded: bool = False
    """Act when the API server has done its part: the client cannot know whether it has."""
    skip: int = 0
    """Let so many matching requests pass first."""
    times: int | None = None
    """Act so often, then no more. None: as long as the fault is there."""
    probability: float = 1.0
    seed: int = 0
    """Of the draws. Which request meets which draw depends on the order in which they arrive."""

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f"Fault.probability is {self.probability}; it must be above 0 and at most 1")
        if self.skip < 0 or (self.times is not None and self.times < 1):
            raise ValueError(f"Fault.skip is {self.skip} and times {self.times}; skip at least 0, times at least 1")


@dataclass(slots=True, eq=False)
class Armed:
    """A fault in force, and how often it met a request."""

    fault: Fault
    met: int = 0
    """Matching requests so far."""
    acted: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.fault.seed)  # noqa: S311 - no secret

    def strikes(self, request: ApiRequest) -> bool:
        """Count a request, and say whether the fault acts on it."""
        fault = self.fault
        if not fault.match.accepts(request):
            return False
        self.met += 1
        if self.met <= fault.skip or (fault.times is not None and self.acted >= fault.times):
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        self.acted += 1
        return True


class Faults:
    """All faults in force. Tests change them while requests are served."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Armed:
        """Put a fault in force."""
        armed = Armed(fault)
        with self._lock:
            self._armed.append(armed)
        return armed

    def remove(self, armed: Armed) -> None:
        """Take a fault back."""
        with self._lock:
            self._armed.remove(armed)

    def striking(self, request: ApiRequest) -> list[Fault]:
        """Return the faults that act on a request, in order; those behind one with the last word do not count it."""
        acting: list[Fault] = []
        with self._lock:
            for armed in self._armed:
                if armed.strikes(request):
                    acting.append(armed.fault)
                    if not isinstance(armed.fault.action, Delay | Gate):
                        break
        return acting
