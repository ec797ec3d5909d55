"""NVML: NVLink, PCIe distance, rack fabric, field values."""

from __future__ import annotations

import uuid
from typing import Any

from twin.codes import FABRIC_STATES, FABRIC_SUMMARIES, LEVELS, Code, Refused, Remote
from twin.facts import Link
from twin.nvml.calls_device import put_pci
from twin.nvml.marshal import number, put, require_version, target
from twin.nvml.session import Session, call

MAX_LINKS = 18
P2P_OK, P2P_GPU_NOT_SUPPORTED, P2P_NOT_SUPPORTED = 0, 2, 5
P2P_NVLINK = 2
UNSIGNED_INT = 1
FIELD_LINK_COUNT, FIELD_COMMON_SPEED, FIELD_SWITCH_LINKS = 91, 90, 147
FIELD_LINK_SPEED, FIELD_LINK_STATE, FIELD_C2C_LINKS, FIELD_RECOVERY_ACTION = 164, 165, 170, 230


@call("nvmlDeviceGetNvLinkState")
def link_state(session: Session, handle: Any, link: Any, result: Any) -> None:
    facts, gpu = session.gpu(handle)
    at = _slot(facts.link_slots, link)
    put(result, at < len(facts.links) and at not in gpu.links_down)


@call("nvmlDeviceGetNvLinkVersion")
def link_version(session: Session, handle: Any, link: Any, result: Any) -> None:
    _active_link(session, handle, link)
    put(result, session.facts.nvlink_version)


@call("nvmlDeviceGetNvLinkRemoteDeviceType")
def remote_type(session: Session, handle: Any, link: Any, result: Any) -> None:
    put(result, _active_link(session, handle, link).remote)


@call("nvmlDeviceGetNvLinkRemotePciInfo_v2")
def remote_pci(session: Session, handle: Any, link: Any, result: Any) -> None:
    far = _active_link(session, handle, link)
    put_pci(result, far.address, session.facts.gpus[far.peer].pci_device_id if far.peer >= 0 else 0)


@call("nvmlDeviceGetNvLinkCapability")
def link_capability(session: Session, handle: Any, link: Any, capability: Any, result: Any) -> None:
    far, wanted = _active_link(session, handle, link), number(capability)
    if not 0 <= wanted <= 5:
        raise Refused(Code.INVALID_ARGUMENT)
    put(result, wanted == 5 or (wanted == 0 and far.remote in (Remote.GPU, Remote.SWITCH)) or wanted == 1)


def _slot(slots: int, link: Any) -> int:
    at = number(link)
    if not slots:
        raise Refused(Code.NOT_SUPPORTED, "no NVLink")
    if not 0 <= at < slots:
        raise Refused(Code.INVALID_ARGUMENT, f"link {at}")
    return at


def _active_link(session: Session, handle: Any, link: Any) -> Link:
    facts, gpu = session.gpu(handle)
    at = _slot(facts.link_slots, link)
    if at >= len(facts.links) or at in gpu.links_down:
        raise Refused(Code.NOT_SUPPORTED, f"link {at} is not active")
    return facts.links[at]


@call("nvmlDeviceGetTopologyCommonAncestor")
def common_ancestor(session: Session, one: Any, other: Any, result: Any) -> None:
    facts, peer = session.gpu(one)[0], session.gpu(other)[0]
    put(result, LEVELS[facts.levels[peer.index]])


@call("nvmlDeviceGetP2PStatus")
def p2p_status(session: Session, one: Any, other: Any, kind: Any, result: Any) -> None:
    (facts, gpu), (peer, peer_gpu) = session.gpu(one), session.gpu(other)
    if gpu.mig_enabled or peer_gpu.mig_enabled:
        status = P2P_GPU_NOT_SUPPORTED
    elif number(kind) == P2P_NVLINK:
        up = any(at not in gpu.links_down for at, link in enumerate(facts.links) if link.peer in (-1, peer.index))
        status = P2P_OK if facts.nvlinks[peer.index] and up else P2P_NOT_SUPPORTED
    else:
        status = P2P_OK if facts.index != peer.index else P2P_NOT_SUPPORTED
    put(result, status)


@call("nvmlDeviceGetGpuFabricInfoV")
def fabric_info(session: Session, handle: Any, result: Any) -> None:
    session.gpu(handle)
    struct, fabric = target(result), session.facts.fabric
    require_version(struct, 2, 3)
    struct.state = FABRIC_STATES[fabric.state]
    struct.status = Code.SUCCESS if fabric.status in ("", "success") else Code.UNKNOWN
    struct.cliqueId = fabric.clique_id or 0
    for at, byte in enumerate(uuid.UUID(fabric.cluster_uuid).bytes if fabric.cluster_uuid else bytes(16)):
        struct.clusterUuid[at] = byte
    # Two bits each, 2 meaning "no fault": degraded bandwidth, route recovery, unhealthy route, access timeout.
    struct.healthMask = {"Full": 0b10101010}.get(fabric.health_bandwidth, 0)
    if hasattr(struct, "healthSummary"):
        struct.healthSummary = FABRIC_SUMMARIES.get(fabric.health_summary, 0)


@call("nvmlDeviceGetFieldValues")
def field_values(session: Session, handle: Any, count: Any, array: Any) -> None:
    session.gpu(handle)
    for at in range(number(count)):
        value = target(array)[at]
        try:
            value.value.uiVal = _field(session, handle, int(value.fieldId), int(value.scopeId))
            value.valueType, value.nvmlReturn = UNSIGNED_INT, Code.SUCCESS
        except Refused as refused:
            value.nvmlReturn = refused.code


def _field(session: Session, handle: Any, field: int, scope: int) -> int:
    facts, gpu = session.gpu(handle)
    if f"field {field}" in session.state.behaviour.lacks:
        raise Refused(Code.INVALID_ARGUMENT)
    if field == FIELD_RECOVERY_ACTION:
        return gpu.recovery_action
    if field == FIELD_LINK_COUNT and facts.link_slots:
        return facts.link_slots
    if field in (FIELD_COMMON_SPEED, FIELD_LINK_SPEED) and facts.links:
        if field == FIELD_LINK_SPEED:
            _active_link(session, handle, scope)
        return session.facts.nvlink_mbps
    if field == FIELD_LINK_STATE:
        return int(_slot(facts.link_slots, scope) < len(facts.links) and scope not in gpu.links_down)
    if field == FIELD_SWITCH_LINKS and any(link.remote == Remote.SWITCH for link in facts.links):
        up = (link for at, link in enumerate(facts.links) if at not in gpu.links_down)
        return sum(link.remote == Remote.SWITCH for link in up)
    raise Refused(Code.NOT_SUPPORTED)
