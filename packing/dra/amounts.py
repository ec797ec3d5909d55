"""Capacity arithmetic of resource.k8s.io: what a request consumes of a device, and whether it may.

As the in-tree allocator has it (consumable_capacity.go), exactly: an amount not asked for is the policy's default, or
all there is; one asked for is rounded up to a valid value or into the valid range, and refused beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping

from packing.dra.model import NANO, Amount, Capacity, DeviceShape

MIB = 2**20 * NANO
"""Nano-bytes of a MiB."""


def consumed(device: DeviceShape, asked: Mapping[str, Amount]) -> dict[str, Amount] | None:
    """Return what a request takes of each capacity of `device`; None where the device can never serve it."""
    if any(name not in device.capacity for name in asked):
        return None
    taken: dict[str, Amount] = {}
    for name, capacity in device.capacity.items():
        amount = _consumed(capacity, asked.get(name))
        if amount is None or amount > capacity.value:
            return None
        taken[name] = amount
    return taken


def _consumed(capacity: Capacity, asked: Amount | None) -> Amount | None:
    """Return the amount after rounding, None where the policy forbids it."""
    policy = capacity.policy
    if asked is None:
        return capacity.value if policy is None or policy.default is None else policy.default
    if policy is None:
        return asked
    if policy.minimum is not None:
        return _in_range(asked, policy.minimum, policy.maximum, policy.step)
    if policy.valid_values:
        return next((value for value in policy.valid_values if asked <= value), None)
    return asked


def _in_range(asked: Amount, minimum: Amount, maximum: Amount | None, step: Amount | None) -> Amount | None:
    """Round up to `minimum` plus whole steps; None above `maximum`."""
    amount = max(asked, minimum)
    if step:
        amount = Amount(minimum + -((minimum - amount) // step) * step)
    return None if maximum is not None and amount > maximum else Amount(amount)


def mib(amount: Amount) -> int:
    """Return bytes as MiB, rounded up."""
    return -(-amount // MIB)


def whole(amount: Amount) -> int:
    """Return an amount in whole units, rounded up."""
    return -(-amount // NANO)
