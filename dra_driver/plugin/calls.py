"""Prepare and unprepare as the kubelet asks for them: many claims in, an answer for each out, come what may."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from dra_driver.errors import CancelledError, DeviceError, PermanentError
from dra_driver.plugin.caller import RpcCaller, Turns, Workers
from dra_driver.plugin.claims import UID, OurNode, bad_name, check, fetch, printable, text_of
from dra_driver.plugin.ports import Claims, Preparer, Reporter
from dra_driver.prepare.model import ClaimRef, PreparedDevice

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Claims worked on at a time. Those of one GPU wait for each other in their threads, so more than GPUs of a node."""
PREPARE = "NodePrepareResources"
UNPREPARE = "NodeUnprepareResources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one claim. `error` is empty where all went well."""

    devices: Sequence[PreparedDevice] = ()
    error: str = ""


Task = Callable[[ClaimRef, RpcCaller], Awaitable[Answer]]


@dataclass(kw_only=True)
class ClaimCalls:
    """The two calls, for every version of the API."""

    ours: OurNode
    preparer: Preparer
    claims: Claims
    reporter: Reporter
    workers: Workers = field(default_factory=partial(Workers, AT_ONCE))
    turns: Turns = field(default_factory=Turns)
    """By UID: the calls of one claim never overlap, so that an Unprepare undoes all of a Prepare before it."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no call is under way."""
    _running: int = 0
    _begun: int = 0

    def __post_init__(self) -> None:
        self._idle.set()

    async def prepare(self, claims: Iterable[ClaimRef], caller: RpcCaller) -> Mapping[str, Answer]:
        """Prepare claims. Returns the answer for each by UID; one that cannot be prepared is no other's concern."""
        return await self._answer(PREPARE, claims, caller, self._prepare)

    async def unprepare(self, claims: Iterable[ClaimRef], caller: RpcCaller) -> Mapping[str, Answer]:
        """Unprepare claims, by UID and without the API server, which may be down or have forgotten them."""
        return await self._answer(UNPREPARE, claims, caller, self._unprepare)

    async def quiet(self, pause_s: float) -> None:
        """Wait until no call was under way for `pause_s`: what was answered has been sent, and nothing has come."""
        begun = -1
        while begun != self._begun or self._running:
            await self._idle.wait()
            begun = self._begun
            await asyncio.sleep(pause_s)

    async def _answer(
        self, method: str, claims: Iterable[ClaimRef], caller: RpcCaller, one: Task
    ) -> Mapping[str, Answer]:
        began = time.monotonic()
        wanted = _by_uid(claims)
        with self._under_way():
            answers = await asyncio.gather(*(self._guarded(method, refs, caller, one) for refs in wanted.values()))
        refused = sum(bool(answer.error) for answer in answers)
        self.reporter.answered(method, time.monotonic() - began, claims=len(wanted), refused=refused)
        return dict(zip(wanted, answers, strict=True))

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self._running += 1
        self._begun += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _guarded(self, method: str, refs: Sequence[ClaimRef], caller: RpcCaller, one: Task) -> Answer:
        """Turn whatever goes wrong with a claim into its answer."""
        claim = refs[0]
        try:
            if len(refs) > 1:
                raise PermanentError("is named twice in one request, by different names")
            answer = await one(claim, caller)
            log.info(
                "%s claim=%s uid=%r devices=%d", method, printable(str(claim)), claim.uid[:80], len(answer.devices)
            )
        except CancelledError as fault:
            return Answer(error=text_of(claim, fault))
        except DeviceError as fault:
            error = text_of(claim, fault)
            log.warning("%s refused uid=%r: %s", method, claim.uid[:80], error)
            if not bad_name(claim):
                self.reporter.refused(claim, fault)
            return Answer(error=error)
        except Exception as fault:  # One claim's surprise must not fail the others.
            error = text_of(claim, fault)
            log.exception("%s failed uid=%r: %s", method, claim.uid[:80], error)
            return Answer(error=error)
        else:
            return answer

    async def _prepare(self, wanted: ClaimRef, caller: RpcCaller) -> Answer:
        if problem := bad_name(wanted):
            raise PermanentError(problem)
        async with self.turns.of(wanted.uid):
            claim = await fetch(self.claims, wanted)
            check(claim, wanted, self.ours)
            return Answer(devices=await self.workers.run(lambda: self.preparer.prepare(claim, caller), caller))

    async def _unprepare(self, wanted: ClaimRef, caller: RpcCaller) -> Answer:
        if not UID.fullmatch(wanted.uid):
            log.warning("nothing to unprepare: uid=%r is none that was ever prepared", wanted.uid[:80])
            return Answer()
        async with self.turns.of(wanted.uid):
            await self.workers.run(lambda: self.preparer.unprepare(wanted, caller), caller)
        return Answer()


def _by_uid(claims: Iterable[ClaimRef]) -> dict[str, list[ClaimRef]]:
    """Group what a request names by UID; the same claim named again is one."""
    found: dict[str, list[ClaimRef]] = {}
    for claim in claims:
        named = found.setdefault(claim.uid, [])
        if claim not in named:
            named.append(claim)
    return found
