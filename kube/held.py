"""What an allocated claim holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kube.objects import ResourceClaim
from kube.quantity import parse_quantity
from packing.dra.model import Amount, DeviceId


class Held(NamedTuple):
    """A device that a claim holds. `share_id` and `consumed` of devices that several claims share, by capacity."""

    request: str
    device: DeviceId
    admin: bool = False
    share_id: str = ""
    consumed: Mapping[str, Amount] | None = None


def held_devices(claim: ResourceClaim) -> tuple[Held, ...]:
    """Return the devices of a claim's allocation, none if it has none. Raises InvalidInputError for a bad quantity.

    Those with `admin` take nothing from anyone.
    """
    if claim.status.allocation is None:
        return ()
    return tuple(
        Held(
            request=result.request,
            device=DeviceId(result.driver, result.pool, result.device),
            admin=result.admin_access,
            share_id=result.share_id,
            consumed={name: parse_quantity(amount) for name, amount in result.consumed_capacity.items()}
            if result.share_id or result.consumed_capacity
            else None,
        )
        for result in claim.status.allocation.devices.results
    )
