"""Which settings go with which device. Pure; asked while a claim is planned, before anything is begun."""

from __future__ import annotations

from collections.abc import Sequence

from dra_driver.config.model import Strategy
from dra_driver.errors import PermanentError
from dra_driver.inventory import Gpu
from dra_driver.prepare.model import DeviceIntent
from topology.modes import Sharing, ways_to_share

STRATEGY_OF = {Sharing.TIME_SLICING: Strategy.TIME_SLICING, Sharing.MPS: Strategy.MPS}
_AT = "$.sharing.strategy"


def strategy_of(intent: DeviceIntent) -> Strategy:
    """Return how a device is shared: a share's kind says it, else its settings do."""
    return intent.settings.strategy if intent.share is None else STRATEGY_OF[intent.share.sharing]


def check(intent: DeviceIntent, gpu: Gpu) -> None:
    """Refuse settings that a device cannot have. Raises PermanentError with the path of the setting and a remedy."""
    asked, strategy = intent.settings.strategy, strategy_of(intent)
    where = f"device {intent.device} (request {intent.request}): {_AT}: {asked}"
    if intent.admin:
        return
    if intent.mig is not None and asked is not Strategy.DEFAULT:
        remedy = "remove it: a MIG device is its claim's alone; several processes of the claim use it in turns"
        raise PermanentError(f"{where}: is set for a whole GPU, of which a MIG device is a part; {remedy}")
    if intent.share is not None and asked not in (Strategy.DEFAULT, strategy):
        remedy = f"remove it, or select devices with sharing {asked}"
        raise PermanentError(f"{where}: the device is shared by {strategy}; {remedy}")
    if strategy is Strategy.MPS and not ways_to_share((Sharing.MPS,), gpu.cuda_compute_capability):
        remedy = "ask for a newer GPU, or for time slicing"
        text = f"GPUs before Volta (this one has compute capability {gpu.cuda_compute_capability})"
        raise PermanentError(f"{where}: MPS keeps no client from another's memory on {text}; {remedy}")


def check_together(intents: Sequence[DeviceIntent]) -> None:
    """Refuse what one process can never use together. Raises PermanentError.

    A process is a client of one MPS daemon, and each GPU has its own. Devices of different requests may go to different
    containers, and do, where each container names its request.
    """
    seen: dict[str, DeviceIntent] = {}
    for intent in intents:
        if intent.admin or strategy_of(intent) is not Strategy.MPS:
            continue
        other = seen.setdefault(intent.request, intent)
        if other is not intent:
            devices = f"devices {other.device} and {intent.device} of request {intent.request}"
            remedy = "write one request for each device, and name it in the container that is to use it"
            raise PermanentError(f"{_AT}: {devices} are both used through MPS, a process through one only; {remedy}")
