"""Random nodes and random claims on them, as a real API server takes them: machines of the catalog as our driver
publishes them, a second driver with odd pools, taints, devices in use; requests of every kind that there is."""

from __future__ import annotations

from random import Random
from typing import Any

from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.simulated import simulated_gpus
from sandbox import objects
from sandbox.objects import Manifest
from topology.catalog import machine
from topology.modes import MigMode, Sharing

MACHINES = (
    "a100-8-pcie-nvlink-pairs",
    "dgx-a100-80",
    "dgx1-v100",
    "hgx-h100-4gpu",
    "hgx-h100-8",
    "l4-8-pcie",
    "mixed-a100-sxm-pcie",
    "rtx8000-4-nvlink-pairs",
    "summit-ac922",
)
OTHER = "dev.example.com"
ANY, TAINT = "any.example.com", "example.com/flaky"
PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb")
STRAY = 0.08
"""How often something is asked for that the node may not have."""
WHOLE, MIG, SLICED, MPS = DRIVER_NAME, *(f"{kind}.{DRIVER_NAME}" for kind in ("mig", "time-slicing", "mps"))


def classes() -> list[Manifest]:
    """Return the DeviceClasses beside those that we ship: any device of the second driver, and all its fast ones."""
    return [
        objects.device_class(OTHER, OTHER),
        objects.device_class(ANY, OTHER, f'device.attributes["{OTHER}"].speed > 0'),
    ]


class Cases:
    """Draws from one seed."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self._kinds: dict[str, list[str]] = {}
        self._profiles: dict[str, list[str]] = {}
        self._node = ""

    def slices(self, node: str, uid: str) -> list[Manifest]:
        """Return the resource slices of a node; they go with it."""
        draw = self.draw
        mode = draw.choice([MigMode.DISABLED, MigMode.DYNAMIC, MigMode.DYNAMIC])
        sharing = tuple(each for each in Sharing if draw.random() < 0.6)
        gpus = simulated_gpus(machine(draw.choice(MACHINES)), node, mig_mode=mode, sharing=sharing)
        found = [*resource_slices(gpus), *self._others(node)]
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
        for each in found:
            each["metadata"]["ownerReferences"] = [owner]
            for device in each["spec"].get("devices", []):
                if draw.random() < 0.06:
                    effect = draw.choice(["NoSchedule", "NoExecute", "None"])
                    device["taints"] = [{"key": TAINT, "value": draw.choice("ab"), "effect": effect}]
        self._note(node, found)
        return found

    def _note(self, node: str, slices: list[Manifest]) -> None:
        """Remember which classes and profiles a node has devices of."""
        devices = [device for each in slices for device in each["spec"].get("devices", [])]
        facts = [{name: next(iter(v.values())) for name, v in each["attributes"].items()} for each in devices]
        here = {"gpu": WHOLE, "mig": MIG, "time-slicing": SLICED, "mps": MPS}
        kinds = {here[each.get("sharing", each["type"])] for each in facts if "type" in each}
        kinds |= {OTHER, ANY} if any("speed" in each for each in facts) else set()
        self._kinds[node] = sorted(kinds)
        self._profiles[node] = sorted({each["profile"] for each in facts if "profile" in each})

    def _others(self, node: str) -> list[Manifest]:
        """Return pools of the second driver: slices whose names are in no order, devices of many kinds, counters."""
        found = []
        for number in range(self.draw.randint(0, 2)):
            pool = f"{self.draw.choice('xyz')}{number}-{node}"
            count = self.draw.randint(1, 3)
            counted = self.draw.random() < 0.5
            for at, name in enumerate(self.draw.sample("pqrstu", count)):
                devices = [self._device(f"{name}{d}", counted=counted) for d in range(self.draw.randint(1, 4))]
                found.append(self._slice(node, pool, f"{name}{at}", count + counted, devices=devices))
            if counted:
                counters = [{"name": "shared", "counters": {"units": {"value": str(self.draw.randint(2, 9))}}}]
                found.append(self._slice(node, pool, "counters", count + 1, sharedCounters=counters))
        return found

    def _slice(self, node: str, pool: str, name: str, count: int, **content: Any) -> Manifest:
        where: Manifest = {"nodeName": node}
        if "devices" in content and self.draw.random() < 0.25:
            term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
            where = {"nodeSelector": {"nodeSelectorTerms": [term]}}
        spec = {"driver": OTHER, "pool": {"name": pool, "generation": 1, "resourceSliceCount": count}}
        return {
            "apiVersion": objects.RESOURCE_API,
            "kind": "ResourceSlice",
            "metadata": {"name": f"{name}-{pool}"},
            "spec": spec | where | content,
        }

    def _device(self, name: str, *, counted: bool) -> Manifest:
        draw = self.draw
        attributes: Manifest = {"speed": {"int": draw.randint(0, 2)}, "side": {"string": draw.choice("lr")}}
        if draw.random() < 0.7:
            attributes["unit"] = {"int": draw.randint(0, 1)}
        device: Manifest = {"name": name, "attributes": attributes, "capacity": {"room": {"value": "10"}}}
        if draw.random() < 0.4:
            device["allowMultipleAllocations"] = True
            device["capacity"]["room"]["requestPolicy"] = draw.choice(
                [
                    {"default": "2", "validRange": {"min": "1", "max": "8", "step": "1"}},
                    {"default": "1", "validValues": ["1", "4", "6"]},
                ]
            )
        if counted and draw.random() < 0.7:
            counters = {"units": {"value": str(draw.randint(1, 3))}}
            device["consumesCounters"] = [{"counterSet": "shared", "counters": counters}]
        return device

    def claim(self, namespace: str, name: str, node: str) -> Manifest:
        """Return a claim of one to three requests, mostly of what the node has."""
        self._node = node
        number = self.draw.choice([1, 1, 1, 1, 2, 3])
        requests = [self._request(f"r{at}") for at in range(number)]
        devices: Manifest = {"requests": requests}
        if self.draw.random() < 0.3:
            devices["constraints"] = [self._constraint([each["name"] for each in requests])]
        return {
            "apiVersion": objects.RESOURCE_API,
            "kind": "ResourceClaim",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"devices": devices},
        }

    def _request(self, name: str) -> Manifest:
        if self.draw.random() < 0.25:
            alternatives = [{"name": f"s{at}", **self._wanted()} for at in range(self.draw.randint(2, 3))]
            return {"name": name, "firstAvailable": alternatives}
        wanted = self._wanted()
        if self.draw.random() < 0.06:
            wanted["adminAccess"] = True
        return {"name": name, "exactly": wanted}

    def _wanted(self) -> Manifest:
        """Return an alternative: its class, how many, selectors, capacity, tolerations."""
        draw = self.draw
        kinds = self._kinds[self._node] if draw.random() > STRAY else [WHOLE, MIG, SLICED, MPS, OTHER, ANY]
        kind = draw.choice(kinds)
        wanted: Manifest = {"deviceClassName": kind, "allocationMode": "ExactCount"}
        wanted["count"] = draw.choice([1, 1, 1, 2, 2, 3]) if kind == WHOLE else draw.choice([1, 1, 1, 2])
        if kind in {WHOLE, OTHER} and draw.random() < 0.08:
            wanted = {"deviceClassName": kind, "allocationMode": "All"}
        if expression := self._expression(kind):
            wanted["selectors"] = [{"cel": {"expression": expression}}]
        if kind in {SLICED, MPS} and draw.random() < 0.8:
            amounts = {"memory": f"{draw.choice([1, 2, 5, 10, 20])}Gi"}
            if draw.random() < 0.5:
                amounts["computeMilli"] = str(draw.choice([100, 250, 500]))
            wanted["capacity"] = {"requests": amounts}
        if kind in {OTHER, ANY} and draw.random() < 0.3:
            wanted["capacity"] = {"requests": {"room": str(draw.randint(1, 7))}}
        if draw.random() < 0.2:
            toleration = {"key": TAINT, "operator": "Exists"}
            wanted["tolerations"] = [draw.choice([toleration, {"key": TAINT, "operator": "Equal", "value": "a"}])]
        return wanted

    def _expression(self, kind: str) -> str:
        draw = self.draw
        ours = f'device.attributes["{DRIVER_NAME}"]'
        if kind == MIG:
            if draw.random() < 0.2:
                return (
                    f'device.capacity["{DRIVER_NAME}"].memory.compareTo(quantity("{draw.choice([4, 9, 18])}Gi")) >= 0'
                )
            return f'{ours}.profile == "{draw.choice(self._profiles[self._node] or PROFILES)}"'
        if draw.random() < 0.6:
            return ""
        if kind in {OTHER, ANY}:
            return draw.choice(
                [
                    f'device.attributes["{OTHER}"].side == "l"',
                    f'"unit" in device.attributes["{OTHER}"] && device.attributes["{OTHER}"].unit == 1',
                ]
            )
        return draw.choice([f"{ours}.index % 2 == {draw.randint(0, 1)}", f"{ours}.index >= {draw.randint(1, 4)}"])

    def _constraint(self, names: list[str]) -> Manifest:
        draw = self.draw
        theirs = [f"{DRIVER_NAME}/nvlinkDomain", f"{DRIVER_NAME}/index", "resource.kubernetes.io/numaNode"]
        attribute = draw.choice([*theirs, f"{DRIVER_NAME}/productName", f"{DRIVER_NAME}/productName", f"{OTHER}/side"])
        kind = "distinctAttribute" if draw.random() < 0.25 else "matchAttribute"
        requests = names if draw.random() < 0.6 else draw.sample(names, 1)
        return {kind: attribute, "requests": requests}
