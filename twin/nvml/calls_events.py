"""NVML: event sets. Every process is told every event of the GPUs that it registered, once."""

from __future__ import annotations

import time
from typing import Any

from twin.codes import NO_INSTANCE, Code, EventType, Refused
from twin.nvml import marshal
from twin.nvml.marshal import EVENT_SET, fill, fill_handle, number, put, put_handle, read_handle, target
from twin.nvml.session import EventSet, Session, call
from twin.nvml.waiting import Waiter
from twin.state import Event
from twin.store import STATE


@call("nvmlEventSetCreate")
def create(session: Session, result: Any) -> None:
    with session.lock:
        session.event_serial += 1
        serial = session.event_serial
        session.event_sets[serial] = EventSet(session.state.event_number)
    put_handle(result, serial, EVENT_SET)


@call("nvmlEventSetFree")
def free(session: Session, handle: Any) -> None:
    with session.lock:
        if session.event_sets.pop(read_handle(handle)[0], None) is None:
            raise Refused(Code.INVALID_ARGUMENT, "no such event set")


@call("nvmlDeviceGetSupportedEventTypes")
def supported(session: Session, handle: Any, result: Any) -> None:
    session.gpu(handle)
    put(result, supported_types(session))


def supported_types(session: Session) -> int:
    """Return the event types this driver version has."""
    lacking = session.state.behaviour.lacks
    return sum(kind for kind in EventType if f"event {kind:#x}" not in lacking)


@call("nvmlDeviceRegisterEvents")
def register(session: Session, handle: Any, types: Any, event_set: Any) -> None:
    facts, _ = session.gpu(handle)
    wanted = number(types)
    if wanted & ~supported_types(session):
        raise Refused(Code.NOT_SUPPORTED, f"event types {wanted:#x}")
    watch = _event_set(session, event_set)
    watch.types[facts.index] = watch.types.get(facts.index, 0) | wanted


def _event_set(session: Session, handle: Any) -> EventSet:
    serial, kind = read_handle(handle)
    found = session.event_sets.get(serial) if kind == EVENT_SET else None
    if found is None:
        raise Refused(Code.INVALID_ARGUMENT, "no such event set")
    return found


@call("nvmlEventSetWait_v2")
def wait(session: Session, handle: Any, result: Any, timeout_ms: Any) -> None:
    """Wait for the next event; TIMEOUT when none came, GPU_IS_LOST when a watched GPU fell off the bus."""
    watch = _event_set(session, handle)
    deadline = time.monotonic() + number(timeout_ms) / 1000
    with Waiter(session.store.folder / STATE) as waiter:
        while (event := _next(session, watch)) is None:
            if any(session.state.gpus[gpu].lost for gpu in watch.types):
                raise Refused(Code.GPU_IS_LOST)
            left = deadline - time.monotonic()
            if left <= 0:
                raise Refused(Code.TIMEOUT)
            waiter.wait(left)
    _put_event(target(result), event)


def _next(session: Session, watch: EventSet) -> Event | None:
    for event in session.state.events:
        if event.number > watch.seen:
            watch.seen = event.number
            if watch.types.get(event.gpu, 0) & event.kind:
                return event
    return None


def _put_event(struct: Any, event: Event) -> None:
    fill_handle(struct, "device", event.gpu + 1, marshal.GPU)
    fill(
        struct,
        {
            "eventType": event.kind,
            "eventData": event.data,
            "gpuInstanceId": NO_INSTANCE if event.gpu_instance is None else event.gpu_instance,
            "computeInstanceId": NO_INSTANCE if event.compute_instance is None else event.compute_instance,
        },
    )
