"""gRPC services of the plugin, as the kubelet calls them. Nothing is decided here.

The messages of DRA v1 and v1beta1, and those of health v1 and v1alpha1, are the same on the wire but for `share_id`,
which v1beta1 skips as unknown. So one handler answers both versions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from dra_driver.pb import dra_health_v1_pb2 as health
from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.pb import pluginregistration_v1_pb2 as registration
from dra_driver.plugin.caller import RpcCaller
from dra_driver.plugin.calls import PREPARE, UNPREPARE, Answer, ClaimCalls
from dra_driver.plugin.health import KEEP_S, HealthFeed
from dra_driver.plugin.ports import DeviceHealth, Health
from dra_driver.prepare.model import ClaimRef

DRA_PACKAGE = "k8s.io.kubelet.pkg.apis.dra"
VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
"""What the kubelet is told that we serve, newest first: it takes the first that it knows."""
MAX_MESSAGE = 1024
"""Characters of a health message."""

Context = aio.ServicerContext[Any, Any]
Handlers = list[grpc.GenericRpcHandler]
_HEALTH = {
    Health.UNKNOWN: health.UNKNOWN,
    Health.HEALTHY: health.HEALTHY,
    Health.UNHEALTHY: health.UNHEALTHY,
}


def dra_handlers(calls: ClaimCalls) -> Handlers:
    """Return the handlers of the DRA service, all versions."""

    async def prepare(request: dra.NodePrepareResourcesRequest, context: Context) -> dra.NodePrepareResourcesResponse:
        answers = await calls.prepare(_claims(request.claims), RpcCaller(context.time_remaining()))
        claims = {uid: _prepared(answer) for uid, answer in answers.items()}
        return dra.NodePrepareResourcesResponse(claims=claims)

    async def unprepare(
        request: dra.NodeUnprepareResourcesRequest, context: Context
    ) -> dra.NodeUnprepareResourcesResponse:
        answers = await calls.unprepare(_claims(request.claims), RpcCaller(context.time_remaining()))
        claims = {uid: dra.NodeUnprepareResourceResponse(error=answer.error) for uid, answer in answers.items()}
        return dra.NodeUnprepareResourcesResponse(claims=claims)

    methods = {
        PREPARE: _unary(prepare, dra.NodePrepareResourcesRequest, dra.NodePrepareResourcesResponse),
        UNPREPARE: _unary(unprepare, dra.NodeUnprepareResourcesRequest, dra.NodeUnprepareResourcesResponse),
    }
    return [_service(f"{DRA_PACKAGE}.{version}.DRAPlugin", methods) for version in ("v1", "v1beta1")]


def health_handlers(feed: HealthFeed) -> Handlers:
    """Return the handlers of the health service, all versions."""

    async def watch(
        request: bytes,  # noqa: ARG001 - the message has no fields
        context: Context,  # noqa: ARG001 - nothing to ask
    ) -> AsyncIterator[health.NodeWatchResourcesResponse]:
        async with aclosing(feed.lists()) as lists:
            async for devices in lists:
                yield health.NodeWatchResourcesResponse(devices=[_health(device) for device in devices])

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
        watch,
        response_serializer=health.NodeWatchResourcesResponse.SerializeToString,
    )
    return [_service(f"{version}.DRAResourceHealth", {"NodeWatchResources": handler}) for version in ("v1", "v1alpha1")]


def registration_handlers(
    info: registration.PluginInfo, told: Callable[[registration.RegistrationStatus], None]
) -> Handlers:
    """Return the handlers of the registration service. `told` hears what became of it."""

    async def get_info(request: registration.InfoRequest, context: Context) -> registration.PluginInfo:  # noqa: ARG001
        return info

    async def notify(
        request: registration.RegistrationStatus,
        context: Context,  # noqa: ARG001
    ) -> registration.RegistrationStatusResponse:
        told(request)
        return registration.RegistrationStatusResponse()

    methods = {
        "GetInfo": _unary(get_info, registration.InfoRequest, registration.PluginInfo),
        "NotifyRegistrationStatus": _unary(
            notify, registration.RegistrationStatus, registration.RegistrationStatusResponse
        ),
    }
    return [_service("pluginregistration.Registration", methods)]


def _unary(
    answer: Callable[[Any, Context], Awaitable[Message]], request: type[Message], response: type[Message]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the handler of a method. Requests are parsed here: gRPC would call a malformed one an unknown error."""

    async def parsed(sent: bytes, context: Context) -> Message:
        try:
            asked = request.FromString(sent)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"this is no {request.DESCRIPTOR.full_name}")
        return await answer(asked, context)

    return grpc.unary_unary_rpc_method_handler(parsed, response_serializer=response.SerializeToString)


def _service(name: str, methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(name, dict(methods))


def _claims(claims: Iterable[dra.Claim]) -> Iterable[ClaimRef]:
    return (ClaimRef(namespace=claim.namespace, name=claim.name, uid=claim.uid) for claim in claims)


def _prepared(answer: Answer) -> dra.NodePrepareResourceResponse:
    devices = [
        dra.Device(
            request_names=device.requests,
            pool_name=device.pool,
            device_name=device.device,
            cdi_device_ids=device.cdi_ids,
            share_id=device.share_id or None,
        )
        for device in answer.devices
    ]
    return dra.NodePrepareResourceResponse(devices=devices, error=answer.error)


def _health(device: DeviceHealth) -> health.DeviceHealth:
    return health.DeviceHealth(
        device=health.DeviceIdentifier(pool_name=device.pool, device_name=device.device),
        health=_HEALTH[device.health],
        last_updated_time=int(device.checked_at),
        health_check_timeout_seconds=KEEP_S,
        message=device.message[:MAX_MESSAGE],
    )
