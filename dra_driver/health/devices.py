"""Which published devices a fault hits, and the taints that follow. Pure.

| taint `gpu.dovetail.dev/...` | value | means |
|--|--|--|
| `lost` | | the GPU does not answer |
| `recovery` | `gpu-reset`, `node-reboot`, ... | NVML's recovery action |
| `xid` | the number | the XID that began it |
| `unmonitored` | `no-answer` | NVML has not answered for it for a while |
| `unmonitored` | `no-events` | it reports no events; effect None |

The effect is NoSchedule: no new claim gets the device, and what runs may end or save itself; Kubernetes shows it as
unhealthy meanwhile. With `evict`, pods on devices that cannot compute any more are deleted (NoExecute): where a GPU is
lost, or needs a reset or a reboot. An action that says *drain* never evicts: it wants work to end by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dra_driver.health.judge import label
from dra_driver.health.model import Fault, FaultKind, GpuHealth
from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.nvml.api import RecoveryAction
from dra_driver.publish.features import EVERYTHING
from dra_driver.publish.names import DRIVER_NAME, gpu_name, partition_name, share_name
from dra_driver.publish.offers import offered
from dra_driver.publish.taints import DeviceTaint, Effect

UNMONITORED = "unmonitored"
NO_ANSWER = DeviceTaint(f"{DRIVER_NAME}/{UNMONITORED}", "no-answer", Effect.NO_SCHEDULE)
NO_EVENTS = DeviceTaint(f"{DRIVER_NAME}/{UNMONITORED}", "no-events", Effect.NONE)
_LETS_WORK_END = frozenset(
    map(
        label,
        (
            RecoveryAction.DRAIN_P2P,
            RecoveryAction.DRAIN_AND_RESET,
            RecoveryAction.RECOVER_IMEX_DOMAIN,
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Published:
    """A published device of a GPU: its name, and the memory slices it has, None for all."""

    name: str
    slices: tuple[int, int] | None = None
    """First, and one after the last."""

    def is_hit(self, fault: Fault) -> bool:
        """Whether a fault makes it useless. What has all of the GPU has the broken part too."""
        if fault.part is None or self.slices is None:
            return True
        first, end = self.slices
        return fault.part.start < end and first < fault.part.start + fault.part.size


def published(node: NodeGpus) -> dict[str, tuple[Published, ...]]:
    """Return UUID -> the devices that a GPU is published as, whatever the API server stores of them."""
    return {gpu.uuid: tuple(_devices(gpu)) for gpu in node.gpus}


def _devices(gpu: Gpu) -> Iterator[Published]:
    offer = offered(gpu, EVERYTHING)
    if offer.whole:
        yield Published(gpu_name(gpu))
    placements = [(profile, instance.start) for profile, instance in offer.existing] + [*offer.placements]
    for profile, start in placements:
        yield Published(partition_name(gpu, profile, start), (start, start + profile.size))
    yield from (Published(share_name(gpu, sharing)) for sharing in offer.sharing)


def taints_of(health: GpuHealth, device: Published, *, stale: bool, evict: bool) -> tuple[DeviceTaint, ...]:
    """Return the taints of a device, one for each key. `stale`: NVML has not answered for the GPU for a while."""
    found: dict[str, DeviceTaint] = {}
    for fault in health.faults:
        if device.is_hit(fault):
            taint = DeviceTaint(f"{DRIVER_NAME}/{fault.kind}", fault.value, _effect(fault, evict=evict))
            found.setdefault(taint.key, taint)
    if stale:
        found[NO_ANSWER.key] = NO_ANSWER
    elif not health.monitored:
        found[NO_EVENTS.key] = NO_EVENTS
    return tuple(found[key] for key in sorted(found))


def message(health: GpuHealth, device: Published) -> str:
    """Return what is wrong with a device, for people; empty where nothing is."""
    return "; ".join(dict.fromkeys(fault.text for fault in health.faults if device.is_hit(fault)))


def _effect(fault: Fault, *, evict: bool) -> Effect:
    ends_work = fault.kind is FaultKind.LOST or (fault.kind is FaultKind.RECOVERY and fault.value not in _LETS_WORK_END)
    return Effect.NO_EXECUTE if evict and ends_work else Effect.NO_SCHEDULE


Healths = Mapping[str, GpuHealth]
"""By UUID of the GPU."""
