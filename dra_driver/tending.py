"""What is looked at again and again: whether journal, hardware, CDI files and the cluster's claims still agree.

The API server is asked only of claims that no container of the kubelet has, and of none while all is well: it would
have to answer each node every 30 s. The rights to list claims are not needed either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dra_driver.errors import DeviceError
from dra_driver.plugin.podresources import PodResources
from dra_driver.plugin.ports import Claims
from dra_driver.prepare.model import Phase, Record
from dra_driver.prepare.recover import Report, recover
from dra_driver.prepare.sentinel import INTERVAL_S, Found, Sentinel
from dra_driver.prepare.state import DeviceState
from kube.errors import ClusterError, NotFoundError
from kube.objects import ResourceClaim

log = logging.getLogger(__name__)

Heard = Callable[[Sequence[Found]], None]
"""Who is told what each check found."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What was known outside of this node's folders when it was asked; None where nobody answered."""

    claims: Mapping[str, ResourceClaim] | None = None
    """By UID: those that no container has but we hold, and all of the kubelet's where a record cannot be read."""
    listed: Collection[str] | None = None
    """CDI names that containers of the kubelet have."""


NOTHING = Outside()


class Tending:
    """One node's."""

    def __init__(self, state: DeviceState, claims: Claims, pods: PodResources, heard: Heard) -> None:
        self._state = state
        self._claims = claims
        self._pods = pods
        self._heard = heard
        self._outside = NOTHING
        self._told: frozenset[Found] = frozenset()
        self._sentinel = Sentinel(state, lambda: self._outside.claims, lambda: self._outside.listed)

    async def begin(self) -> Report:
        """Put in order what a former process left. Raises DeviceError where the journal cannot be listed."""
        outside = await self._ask()
        report = await asyncio.to_thread(recover, self._state, outside.claims)
        log.info(
            "recovered kept=%d undone=%d rebuilt=%d unknown=%d faults=%d",
            *map(len, (report.kept, report.undone, report.rebuilt, report.unknown, report.faults)),
        )
        return report

    async def run(self) -> None:
        """Check every INTERVAL_S until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                self._outside = await self._ask()
                found = await asyncio.to_thread(self._sentinel.check)
            except DeviceError as error:
                log.warning("check failed, to be tried again: %s", error)
                continue
            except Exception:  # a surprise of one check must not end the driver of all claims
                log.exception("check failed, to be tried again")
                continue
            self._tell(found)

    def _tell(self, found: Sequence[Found]) -> None:
        """Log what is new; the same as a moment ago is no news."""
        for each in found:
            if each not in self._told:
                log.error("sentinel kind=%s subject=%s: %s", each.kind, each.subject, each.text)
        self._told = frozenset(found)
        self._heard(found)

    async def _ask(self) -> Outside:
        entries = await asyncio.to_thread(self._state.effects.journal.entries)
        try:
            pods = await self._pods.given()
        except DeviceError as error:
            log.debug("the kubelet tells nothing: %s", error)
            return NOTHING
        records = [record for record in entries.records.values() if record.phase is not Phase.UNKNOWN]
        unused = [record for record in records if self._names(record).isdisjoint(pods.names)]
        wanted = {(record.claim.namespace, record.claim.name) for record in unused}
        if entries.corrupt or len(records) < len(entries.records):
            wanted |= pods.claims
        try:
            found = await self._fetch(wanted)
        except ClusterError as error:
            log.debug("the API server tells nothing: %s", error)
            return Outside(listed=pods.names)
        return Outside(claims=found, listed=pods.names)

    async def _fetch(self, names: Iterable[tuple[str, str]]) -> dict[str, ResourceClaim]:
        found = {}
        for namespace, name in sorted(names):
            try:
                claim = await self._claims.get(namespace, name)
            except NotFoundError:
                continue
            found[claim.metadata.uid] = claim
        return found

    def _names(self, record: Record) -> frozenset[str]:
        return frozenset(name for ids in self._state.effects.cdi.ids(record) for name in ids)
