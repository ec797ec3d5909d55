"""What an allocated claim holds."""

from __future__ import annotations

from kube.objects import ResourceClaim
from kube.quantity import parse_quantity
from packing.dra.model import DeviceId, Given


def held_devices(claim: ResourceClaim) -> tuple[Given, ...]:
    """Return the devices of a claim's allocation, none if it has none. Raises InvalidInputError for a bad quantity.

    Those with `admin` take nothing from anyone; those with `consumed` are shares, each a part of its device.
    """
    if claim.status.allocation is None:
        return ()
    return tuple(
        Given(
            request=result.request,
            device=DeviceId(result.driver, result.pool, result.device),
            admin=result.admin_access,
            consumed={name: parse_quantity(amount) for name, amount in result.consumed_capacity.items()}
            if result.share_id or result.consumed_capacity
            else None,
        )
        for result in claim.status.allocation.devices.results
    )
