"""Allocations in the status of claims -> what `packing.dra` counts as in use."""

from __future__ import annotations

import logging

from kube.objects import DeviceRequestAllocationResult, Quantity, ResourceClaim
from kube.quantity import parse_quantity
from packing.dra.model import Amount, DeviceId, Given
from topology.errors import InvalidInputError

_log = logging.getLogger(__name__)


def given_to(claim: ResourceClaim) -> tuple[Given, ...]:
    """Return the devices of an allocated claim; nothing of one that is not."""
    allocation = claim.status.allocation
    return () if allocation is None else tuple(_given(claim, result) for result in allocation.devices.results)


def _given(claim: ResourceClaim, result: DeviceRequestAllocationResult) -> Given:
    """Return a result; one with amounts that are none counts as all of the device, so that nobody is given it too."""
    device = DeviceId(result.driver, result.pool, result.device)
    consumed: dict[str, Amount] | None = None
    if result.share_id or result.consumed_capacity:
        try:
            consumed = {name: _at_least_none(amount) for name, amount in result.consumed_capacity.items()}
        except InvalidInputError as error:
            name = claim.metadata.full_name
            _log.warning("claim=%s device=%s consumedCapacity: %s", name, "/".join(device), error)
    return Given(result.request, device, result.admin_access, consumed)


def _at_least_none(amount: Quantity) -> Amount:
    """Return an amount; the API server lets claims consume less than nothing, which must not make room for others."""
    return max(parse_quantity(amount), Amount(0))
