"""Where health comes together: told by the thread that asks NVML, read by the kubelet's stream and by publishing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

from dra_driver.health.devices import Published, message, published, taints_of
from dra_driver.health.model import GpuHealth
from dra_driver.inventory import NodeGpus
from dra_driver.plugin.ports import DeviceHealth, Health
from dra_driver.publish.names import DRIVER_NAME, pool_name
from dra_driver.publish.taints import DeviceTaint, Taints

STALE_S = 30.0
"""After so long without an answer of NVML the health of a GPU is unknown, and nothing new is put on it."""
SILENT = "NVML has not answered for 30 s; look at the node's kernel log, a reboot may be needed"
UNKNOWN = GpuHealth()


class HealthBoard:
    """Health of all published devices. Thread-safe; implements `plugin.ports.HealthSource`.

    Before the first look at a GPU its devices are unknown to the kubelet, and not tainted.
    """

    def __init__(
        self, *, driver: str = DRIVER_NAME, evict: bool = False, wall: Callable[[], float] = time.time
    ) -> None:
        """`evict`: see `health.devices`. `wall` gives Unix seconds."""
        self._driver, self._evict, self._wall = driver, evict, wall
        self._lock = threading.Lock()
        self._pool = ""
        self._devices: Mapping[str, Sequence[Published]] = {}
        self._health: dict[str, GpuHealth] = {}
        self._looked = False
        self._heard: dict[int, Callable[[], None]] = {}
        self._numbers = count()

    def show(self, node: NodeGpus) -> None:
        """Take `node` for what is published."""
        devices = published(node)
        with self._lock:
            same = devices == self._devices
            self._pool, self._devices = pool_name(self._driver, node.node), devices
        if not same:
            self._tell()

    def uuids(self) -> Sequence[str]:
        """Return the GPUs that are published."""
        with self._lock:
            return tuple(self._devices)

    @property
    def looked(self) -> bool:
        """Whether anything was ever reported."""
        with self._lock:
            return self._looked

    def report(self, found: Mapping[str, GpuHealth]) -> None:
        """Take `found` for the health of all GPUs. Who listens hears of it where something is different."""
        with self._lock:
            same = found == self._health and self._looked
            self._health, self._looked = dict(found), True
        if not same:
            self._tell()

    def devices(self) -> Sequence[DeviceHealth]:
        """Return the complete list."""
        with self._lock:
            return [self._told(uuid, device) for uuid, device in self._each()]

    def wrong(self) -> Mapping[str, str]:
        """Return what is wrong with each GPU that something is wrong with, for people; keys name the GPU.

        As of now: silence becomes wrong without being told.
        """
        oldest_s = self._wall() - STALE_S
        with self._lock:
            texts = {
                uuid: [*(each.text for each in found.faults), *([SILENT] if found.checked_s < oldest_s else ())]
                for uuid, found in self._health.items()
            }
        return {uuid: "; ".join(dict.fromkeys(text)) for uuid, text in texts.items() if text}

    def taints(self) -> Taints:
        """Return the taints of the devices that have any, as of now: silence becomes a taint without being told."""
        oldest_s = self._wall() - STALE_S
        with self._lock:
            found = {device.name: self._taints_of(uuid, device, oldest_s) for uuid, device in self._each()}
        return {name: taints for name, taints in found.items() if taints}

    def _taints_of(self, uuid: str, device: Published, oldest_s: float) -> tuple[DeviceTaint, ...]:
        health = self._health.get(uuid)
        if health is None:
            return ()
        return taints_of(health, device, stale=health.checked_s < oldest_s, evict=self._evict)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called after each change, from any thread. Returns what ends it."""
        number = next(self._numbers)
        with self._lock:
            self._heard[number] = changed

        def end() -> None:
            with self._lock:
                self._heard.pop(number, None)

        return end

    def _each(self) -> Iterator[tuple[str, Published]]:
        return ((uuid, device) for uuid, devices in self._devices.items() for device in devices)

    def _told(self, uuid: str, device: Published) -> DeviceHealth:
        health = self._health.get(uuid, UNKNOWN)
        wrong = message(health, device)
        if wrong:
            state = Health.UNHEALTHY
        elif uuid in self._health and health.monitored:
            state = Health.HEALTHY
        else:
            state = Health.UNKNOWN
            wrong = "the GPU reports no events" if uuid in self._health else "not looked at yet"
        return DeviceHealth(
            pool=self._pool, device=device.name, health=state, checked_at=health.checked_s, message=wrong
        )

    def _tell(self) -> None:
        with self._lock:
            heard = list(self._heard.values())
        for changed in heard:
            changed()
