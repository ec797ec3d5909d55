"""The `bind` verb: writes the devices that were promised into the pod's claims, then the Binding.

Three writes for a pod with one claim from a template (finalizer, allocation with reservation, Binding) and no read, as
long as nobody else changes the claim. Idempotent by the pod's uid. What may still land is never taken for failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol

from kube.errors import ClusterError, ConflictError, NotFoundError
from kube.objects import Pod
from packing.model import NodeName
from scheduler.claimwriter import ClaimWriter, Written, is_unknown
from scheduler.faults import BindFault, FinalFault, NoLongerFree, UnknownFault, VoidFault
from scheduler.ledger import Ledger
from scheduler.locks import Locks
from scheduler.reservations import PodUid
from scheduler.seams import Writes
from scheduler.special import Promise, SpecialClaims
from scheduler.turns import Turns

log = logging.getLogger(__name__)

NOT_OURS = "this replica does not lead, or its lease ends; the pod is tried again"


class Fence(Protocol):
    """Whether claims may be written."""

    def term(self) -> int:
        """Return the term of leadership; in a later one, what an earlier one decided may be taken."""
        ...

    def left(self) -> float:
        """Return the seconds for which writes are allowed; 0 or less: none."""
        ...


class Promises(Protocol):
    """Who decides."""

    def promise(self, pod: Pod, node: NodeName) -> Promise:
        """Return what the pod gets on `node`, after a new decision where it was promised nothing. Raises BindFault."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BindSettings:
    """How long `bind` may take. `answer_s` is well inside kube-scheduler's httpTimeout for the extender."""

    answer_s: float = 10.0
    write_s: float = 5.0
    """Of one call of the API server, at most; it is told to give up then too."""
    least_s: float = 0.5
    """A write that has less than this is not begun."""
    binding_settles_s: float = 20.0
    """A Binding without an answer that does not show after so long has not landed."""
    at_once: int = 32
    """Pods whose writes are under way; others wait for their turn."""
    most: int = 96
    """Pods under way or waiting before `filter` lets kube-scheduler wait: more would not end within `answer_s`."""
    patience_s: float = 2.0
    """So long `filter` waits at most."""


@dataclass(frozen=True, slots=True)
class Work:
    """Writes that belong together: they end by `until`, and with the term of leadership in which they were begun."""

    until: float
    term: int


@dataclass(frozen=True, slots=True)
class Unbound:
    """A pod, as it was when its Binding got no answer, and when that was."""

    pod: Pod
    since: float


class Binder:
    """Answers `bind`. One run a pod at a time; a repeated call waits for the run that is there."""

    def __init__(
        self,
        ledger: Ledger,
        writes: Writes,
        claims: ClaimWriter,
        *,
        special: SpecialClaims,
        promises: Promises,
        fence: Fence,
        clock: Callable[[], float],
        settings: BindSettings = BindSettings(),
    ) -> None:
        self.ledger = ledger
        self.writes = writes
        self.claims = claims
        self.special = special
        self.promises = promises
        self.fence = fence
        self.clock = clock
        self.settings = settings
        self.locks = Locks()
        self.turns = Turns(settings.at_once, settings.most)
        self.closed = False
        self.unbound: dict[PodUid, Unbound] = {}
        self._running: dict[tuple[PodUid, str], asyncio.Task[str]] = {}

    async def bind(self, namespace: str, name: str, uid: str, node: str) -> str:
        """Bind a pod to a node with its devices. Returns what went wrong, empty when nothing did."""
        return await self._once(PodUid(uid), node, lambda: self._run(namespace, name, PodUid(uid), NodeName(node)))

    async def room(self) -> None:
        """Wait, for a while, until the pods on their way are not too many."""
        await self.turns.room(self.settings.patience_s)

    async def complete(self, pod: Pod) -> str:
        """Give a pod that has a node already the devices it lacks there. Returns why it cannot, empty for success."""
        return await self._once(
            PodUid(pod.metadata.uid), f"{pod.spec.node_name}, completed", lambda: self._complete(pod)
        )

    async def _complete(self, pod: Pod) -> str:
        uid, node = PodUid(pod.metadata.uid), NodeName(pod.spec.node_name)
        work = self.begin(self.settings.answer_s)
        async with self.locks.of(uid):
            try:
                promise = self.promises.promise(pod, node)
                claims = await self.special.make(pod, node, promise, lambda: self.window(work))
                async with self.locks.all(claims):
                    for claim in sorted(claims):
                        await self.claims.bring(claim, pod, node, lambda: self.window(work))
            except NoLongerFree:
                return "no devices free on that node"
            except FinalFault as fault:
                return fault.text
            finally:
                self.ledger.apply(self.ledger.reservations.bound(uid))
        return ""

    async def drain(self) -> None:
        """Begin nothing more, and wait for what is under way: it goes on writing."""
        self.closed = True
        while self._running:
            await self.ended()

    async def ended(self) -> None:
        """Wait until all that is under way now has ended."""
        if self._running:
            await asyncio.wait(list(self._running.values()))

    def begin(self, seconds: float) -> Work:
        """Begin writes that must end in so long. Raises BindFault where none are begun any more."""
        if self.closed:
            raise BindFault(NOT_OURS)
        return Work(self.clock() + seconds, self.fence.term())

    def window(self, work: Work) -> float:
        """Return how long the next write of `work` may take. Raises BindFault where there is no time for one."""
        fence = self.fence.left()
        if fence < self.settings.least_s or work.term != self.fence.term():
            raise BindFault(NOT_OURS)
        left = work.until - self.clock()
        if left < self.settings.least_s:
            raise BindFault("the API server is slow; the pod is tried again")
        return min(left, fence, self.settings.write_s)

    async def _once(self, uid: PodUid, what: str, run: Callable[[], Coroutine[None, None, str]]) -> str:
        key = (uid, what)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(run())
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)

    async def _run(self, namespace: str, name: str, uid: PodUid, node: NodeName) -> str:
        try:
            work = self.begin(self.settings.answer_s)
        except BindFault as fault:
            return fault.text
        async with self.turns.one(), self.locks.of(uid):
            try:
                pod = await self._pod(namespace, name, uid, work)
                if pod.spec.node_name == node:
                    return ""
                if pod.spec.node_name:
                    return f"pod {namespace}/{name} is on node {pod.spec.node_name} already"
                await self._bind(pod, node, work)
            except BindFault as fault:
                log.info("bind failed pod=%s/%s node=%s: %s", namespace, name, node, fault.text)
                return fault.text
        return ""

    async def _pod(self, namespace: str, name: str, uid: PodUid, work: Work) -> Pod:
        pod = self.ledger.view.pods.get(uid)
        if pod is None:
            try:
                pod = await self.writes.read_pod(namespace, name, timeout_s=self.window(work))
            except NotFoundError as error:
                raise FinalFault(f"pod {namespace}/{name} was deleted") from error
            except ClusterError as error:
                raise BindFault(f"pod {namespace}/{name} could not be read: {error}") from error
        if pod.metadata.uid != uid:
            raise FinalFault(f"pod {namespace}/{name} was deleted, and another of its name was made")
        return pod

    async def _bind(self, pod: Pod, node: NodeName, work: Work) -> None:
        uid = PodUid(pod.metadata.uid)
        promise = self.promises.promise(pod, node)
        self.ledger.apply(self.ledger.reservations.start(uid, node))
        written: list[Written] = []
        try:
            claims = await self.special.make(pod, node, promise, lambda: self.window(work))
            async with self.locks.all(claims):
                for claim in sorted(claims):
                    each = await self.claims.bring(claim, pod, node, lambda: self.window(work))
                    written += [each] if each else []
            if claims:
                self.claims.see(node)
            await self._binding(pod, node, work)
        except BindFault as fault:
            if isinstance(fault, UnknownFault):
                self.unbound[uid] = Unbound(pod, self.clock())
                raise
            if uid in self.unbound:
                raise  # an earlier Binding may still land, on this node
            if fault.final:
                await self._take_back(written, pod, work.term)
            self._failed(uid, work, fault)
            raise
        except BaseException:  # cancelled: a Binding may be on its way
            self.unbound[uid] = Unbound(pod, self.clock())
            raise

    def _failed(self, uid: PodUid, work: Work, fault: BindFault) -> None:
        """Let the pod be decided again. What an earlier term promised may be another's by now."""
        reservations, now = self.ledger.reservations, self.clock()
        self.ledger.apply(reservations.failed(uid, now))
        if isinstance(fault, VoidFault):
            self.ledger.apply(reservations.void(uid))
        if work.term != self.fence.term() or self.fence.left() <= 0:
            self.ledger.apply(reservations.retire())

    async def _binding(self, pod: Pod, node: NodeName, work: Work) -> None:
        name = pod.metadata.full_name
        try:
            await self.writes.bind(pod, node, timeout_s=self.window(work))
        except ConflictError as error:
            await self._conflicting(pod, node, str(error), work)
        except NotFoundError as error:
            raise FinalFault(f"pod {name} was deleted") from error
        except ClusterError as error:
            if is_unknown(error):
                raise UnknownFault(f"the Binding of pod {name} got no answer: {error}") from error
            kind = FinalFault if error.status != 429 else BindFault
            raise kind(f"pod {name} could not be bound: {error}") from error

    async def _conflicting(self, pod: Pod, node: NodeName, text: str, work: Work) -> None:
        """See what the pod has become: bound to our node is what was wanted."""
        fresh = await self._read_again(pod, work)
        if fresh.spec.node_name == node:
            return
        if fresh.spec.node_name:
            raise FinalFault(f"pod {pod.metadata.full_name} is on node {fresh.spec.node_name} already")
        raise FinalFault(f"pod {pod.metadata.full_name} could not be bound: {text}")

    async def _read_again(self, pod: Pod, work: Work) -> Pod:
        try:
            fresh = await self.writes.read_pod(pod.metadata.namespace, pod.metadata.name, timeout_s=self.window(work))
        except NotFoundError as error:
            raise FinalFault(f"pod {pod.metadata.full_name} was deleted") from error
        except (ClusterError, BindFault) as error:
            raise UnknownFault(f"pod {pod.metadata.full_name} has a node, and could not be read: {error}") from error
        if fresh.metadata.uid != pod.metadata.uid:
            raise FinalFault(f"pod {pod.metadata.full_name} was deleted, and another of its name was made")
        return fresh

    async def _take_back(self, written: Sequence[Written], pod: Pod, term: int) -> None:
        """Undo the claims of this call; what cannot be undone now, the janitor does."""
        work = Work(self.clock() + self.settings.write_s, term)
        for each in written:
            claim = each.claim
            async with self.locks.of(claim.metadata.uid):
                try:
                    await self.claims.take_back(each, pod, lambda: self.window(work))
                except (BindFault, ClusterError) as error:
                    log.warning(
                        "not taken back claim=%s pod=%s: %s", claim.metadata.name, pod.metadata.full_name, error
                    )
