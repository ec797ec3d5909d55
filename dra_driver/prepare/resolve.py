"""From the allocation of a claim to devices of this node. Pure; everything that is wrong with the claim shows here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dra_driver.config.model import Settings, Strategy
from dra_driver.errors import PermanentError
from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.prepare.effects import GpuWide
from dra_driver.prepare.model import NO_SETTINGS, ClaimRef, DeviceIntent, MigTarget, ShareTarget
from dra_driver.publish.attributes import COMPUTE, WHOLE_MILLI
from dra_driver.publish.counters import MEMORY
from dra_driver.publish.names import DRIVER_NAME, gpu_name, partition_name, pool_name, share_name
from dra_driver.sharing.rules import check, check_together, strategy_of
from kube.objects import ResourceClaim
from kube.objects_base import Quantity
from kube.objects_claims import DeviceAllocationConfiguration, DeviceRequestAllocationResult
from kube.quantity import parse_quantity
from packing.dra.model import NANO
from topology.errors import InvalidInputError
from topology.mig import placements
from topology.modes import MigMode, Sharing

SettingsFor = Callable[[Sequence[DeviceAllocationConfiguration], str], Settings]
"""Configuration of an allocation, and the name of a request -> its settings. Raises PermanentError."""

Target = MigTarget | Sharing | None
"""A part of a GPU: one placement, the shares of one kind; None: the whole GPU."""


def claim_ref(claim: ResourceClaim) -> ClaimRef:
    """Return what a claim is known by."""
    return ClaimRef(namespace=claim.metadata.namespace, name=claim.metadata.name, uid=claim.metadata.uid)


def intents(
    claim: ResourceClaim, node: NodeGpus, settings_for: SettingsFor, driver: str = DRIVER_NAME
) -> tuple[DeviceIntent, ...]:
    """Return the devices of a claim that are ours, in order of its allocation. Raises PermanentError."""
    allocation = claim.status.allocation
    if allocation is None:
        raise PermanentError(f"claim {claim.metadata.full_name} is not allocated; there is nothing to prepare")
    known = {gpu.minor: gpu for gpu in node.gpus}
    found = []
    for result in allocation.devices.results:
        if result.driver == driver:
            settings = NO_SETTINGS if result.admin_access else settings_for(allocation.devices.config, result.request)
            found.append(_intent(result, node, known, settings, driver))
    if not found:
        raise PermanentError(f"claim {claim.metadata.full_name} was given no device of driver {driver}")
    check_together(found)
    return tuple(found)


def is_allocation_of(claim: ResourceClaim, devices: Sequence[DeviceIntent], driver: str = DRIVER_NAME) -> bool:
    """Whether a claim is allocated exactly these devices of ours."""
    allocation = claim.status.allocation
    results = () if allocation is None else allocation.devices.results
    given = {(each.pool, each.device, each.share_id) for each in results if each.driver == driver}
    return given == {(each.pool, each.device, each.share.share_id if each.share else "") for each in devices}


def is_given_here(claim: ResourceClaim, node: NodeGpus, driver: str = DRIVER_NAME) -> bool:
    """Whether a claim is allocated devices of this node, whatever they are."""
    allocation = claim.status.allocation
    results = () if allocation is None else allocation.devices.results
    return any((each.driver, each.pool) == (driver, pool_name(driver, node.node)) for each in results)


def gpu_wide(intent: DeviceIntent) -> GpuWide | None:
    """Return what a device sets for all users of its GPU; None where nothing."""
    if intent.admin or intent.mig is not None:
        return None
    strategy = strategy_of(intent)
    if strategy is Strategy.DEFAULT:
        return None
    return GpuWide(strategy, intent.settings.interval) if strategy is Strategy.TIME_SLICING else GpuWide(strategy)


def targets(gpu: Gpu) -> Mapping[str, Target]:
    """Return every device that a GPU is published as, by name."""
    named: dict[str, Target] = {}
    if gpu.mig is not None and gpu.mig_mode is not MigMode.DISABLED:
        for profile, start in placements(gpu.mig):
            profile_id = -1 if profile.profile_id is None else profile.profile_id
            named[partition_name(gpu, profile, start)] = MigTarget(
                profile=profile.name, profile_id=profile_id, start=start, size=profile.size
            )
    if gpu.mig_mode is not MigMode.ENABLED:
        named |= {gpu_name(gpu): None} | {share_name(gpu, sharing): sharing for sharing in gpu.sharing}
    return named


def _intent(
    result: DeviceRequestAllocationResult, node: NodeGpus, known: Mapping[int, Gpu], settings: Settings, driver: str
) -> DeviceIntent:
    where = f"device {result.device} (request {result.request})"
    if result.pool != pool_name(driver, node.node):
        raise PermanentError(f"{where} is of pool {result.pool}, not of this node's {pool_name(driver, node.node)}")
    gpu = known.get(_minor(result.device))
    parts = {} if gpu is None else targets(gpu)
    if gpu is None or result.device not in parts:
        raise PermanentError(f"{where} does not exist on node {node.node}; delete the pod, so that it is placed anew")
    target = parts[result.device]
    share = _share(result, target, gpu, where) if isinstance(target, Sharing) else None
    intent = DeviceIntent(
        request=result.request.partition("/")[0],
        pool=result.pool,
        device=result.device,
        gpu_uuid=gpu.uuid,
        minor=gpu.minor,
        mig=target if isinstance(target, MigTarget) else None,
        share=share,
        admin=result.admin_access,
        settings=settings,
    )
    check(intent, gpu)
    return intent


def _minor(device: str) -> int:
    digits = device.removeprefix("gpu-").partition("-")[0]
    return int(digits) if digits.isdecimal() and len(digits) <= 3 else -1


def _share(result: DeviceRequestAllocationResult, sharing: Sharing, gpu: Gpu, where: str) -> ShareTarget:
    consumed = result.consumed_capacity
    memory = _amount(consumed[MEMORY], where) if MEMORY in consumed else gpu.memory_bytes
    milli = _amount(consumed[COMPUTE], where) if COMPUTE in consumed else 0
    if memory > gpu.memory_bytes or milli > WHOLE_MILLI:
        raise PermanentError(
            f"{where}: {memory} bytes and {milli} thousandths of compute are more than the GPU has,"
            f" {gpu.memory_bytes} and {WHOLE_MILLI}"
        )
    return ShareTarget(sharing=sharing, share_id=result.share_id, memory_bytes=memory, compute_milli=milli)


def _amount(quantity: Quantity, where: str) -> int:
    try:
        amount = parse_quantity(quantity)
    except InvalidInputError as fault:
        raise PermanentError(f"{where}: consumed capacity {fault}") from fault
    if amount < 0:
        raise PermanentError(f"{where}: consumed capacity {quantity} is negative")
    return -(-amount // NANO)
