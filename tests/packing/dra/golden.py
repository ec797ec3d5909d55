"""Small cases as objects of the API and back, for a table of what the allocator of kube-scheduler picks.

`python -m tests.packing.dra.golden cases N` writes N cases; sandbox/tools/allocgolden answers them:

    python -m tests.packing.dra.golden cases 2000 > cases
    allocgolden < cases | python -m tests.packing.dra.golden join cases | gzip -9n > tests/packing/dra/firstfit.jsonl.gz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from packing.dra.inventory import build_inventory
from packing.dra.model import (
    NANO,
    Amount,
    Ask,
    Attribute,
    AttributeKind,
    Capacity,
    ClaimAsk,
    ClaimRequest,
    ClaimUid,
    Constraint,
    CounterUse,
    DeviceId,
    DeviceShape,
    Effect,
    Given,
    Pool,
    PoolShape,
    Reach,
    RequestPolicy,
    SubRequest,
    Taint,
    Toleration,
)
from packing.fabric import build_fabric
from packing.model import NodeName
from tests.packing.clusters import node
from tests.packing.dra.builders import NO_GPUS
from tests.packing.dra.small import Case, Wants, cases

Json = dict[str, Any]
NODE = "n"


def _quantity(amount: Amount) -> str:
    return str(amount // NANO)


def _amount(text: str) -> Amount:
    return Amount(int(text) * NANO)


def encode(case: Case) -> Json:
    """Return a case as objects of the API. Lists of values are left out: 1.36 has them behind a gate that is off."""
    objects = [each for reach in case.reach for each in _slices(reach.pool, reach.mask)]
    if case.unready:
        objects.append(_slice("unready", "late", 2, {"devices": [{"name": "x"}]}))
    return {
        "slices": objects,
        "classes": [{"metadata": {"name": "any"}, "spec": {}}],
        "claims": [_claim(claim) for claim in case.ask.claims],
        "held": [_given(given) for given in case.held],
    }


def _slice(name: str, pool: str, count: int, content: Json) -> Json:
    spec = {"driver": "d", "pool": {"name": pool, "generation": 1, "resourceSliceCount": count}, "nodeName": NODE}
    return {"metadata": {"name": name}, "spec": spec | content}


def _slices(pool: Pool, mask: int) -> list[Json]:
    sets = sorted({name for name, _ in pool.shape.counters})
    counters = [
        {
            "name": each,
            "counters": {c: {"value": _quantity(v)} for (s, c), v in pool.shape.counters.items() if s == each},
        }
        for each in sets
    ]
    whole = range(len(pool.shape.devices))
    here, there = [at for at in whole if mask >> at & 1], [at for at in whole if not mask >> at & 1]
    count = 1 + bool(sets) + bool(there)
    found = [_slice(f"{pool.name}-1", pool.name, count, {"devices": [_device(pool, at) for at in here]})]
    if there:
        others = {"devices": [_device(pool, at) for at in there], "nodeName": "other"}
        found.append(_slice(f"{pool.name}-2", pool.name, count, others))
    if sets:
        found.append(_slice(f"{pool.name}-0", pool.name, count, {"sharedCounters": counters}))
    return found


def _device(pool: Pool, at: int) -> Json:
    device = pool.shape.devices[at]
    found: Json = {
        "name": device.name,
        "attributes": {
            name: {str(value.kind): value.values[0]} for name, value in device.attributes.items() if not value.is_list
        },
        "capacity": {name: _capacity(capacity) for name, capacity in device.capacity.items()},
        "taints": [
            {"key": taint.key, "value": taint.value, "effect": str(taint.effect)} for taint in pool.tainted.get(at, ())
        ],
        "allowMultipleAllocations": device.multiple,
    }
    if device.consumes:
        uses = {use.counter: {"value": _quantity(use.amount)} for use in device.consumes}
        found["consumesCounters"] = [{"counterSet": device.consumes[0].counter_set, "counters": uses}]
    if device.binding_conditions:
        found |= {"bindingConditions": list(device.binding_conditions), "bindingFailureConditions": ["failed"]}
    return found


def _capacity(capacity: Capacity) -> Json:
    policy = capacity.policy
    found: Json = {"value": _quantity(capacity.value)}
    if policy is not None:
        spec: Json = {}
        if policy.default is not None:
            spec["default"] = _quantity(policy.default)
        if policy.valid_values:
            spec["validValues"] = [_quantity(value) for value in policy.valid_values]
        bounds = {"min": policy.minimum, "max": policy.maximum, "step": policy.step}
        if policy.minimum is not None:
            spec["validRange"] = {name: _quantity(value) for name, value in bounds.items() if value is not None}
        found["requestPolicy"] = spec
    return found


def _given(given: Given) -> Json:
    driver, pool, device = given.device
    found: Json = {"request": given.request, "driver": driver, "pool": pool, "device": device}
    if given.admin:
        found["adminAccess"] = True
    if given.consumed is not None:
        found["consumedCapacity"] = {name: _quantity(amount) for name, amount in given.consumed.items()}
    return found


def _claim(claim: ClaimAsk) -> Json:
    requests = []
    for request in claim.requests:
        if len(request.alternatives) == 1:
            requests.append({"name": request.name, "exactly": _sub(request.alternatives[0])})
        else:
            alternatives = [{"name": sub.name.partition("/")[2], **_sub(sub)} for sub in request.alternatives]
            requests.append({"name": request.name, "firstAvailable": alternatives})
    constraints = [
        {
            "distinctAttribute" if each.distinct else "matchAttribute": each.attribute,
            "requests": sorted(each.requests),
        }
        for each in claim.constraints
    ]
    spec = {"devices": {"requests": requests, "constraints": constraints}}
    return {"metadata": {"name": claim.uid, "namespace": "default", "uid": claim.uid}, "spec": spec}


def _sub(sub: SubRequest) -> Json:
    found: Json = {"deviceClassName": "any", "allocationMode": "All" if sub.all_devices else "ExactCount"}
    if not sub.all_devices:
        found["count"] = sub.count
    if sub.admin:
        found["adminAccess"] = True
    assert isinstance(sub.selection, Wants)
    if sub.selection.number is not None:
        expression = f'device.attributes["d"][?"a"].orValue(9) == {sub.selection.number}'
        found["selectors"] = [{"cel": {"expression": expression}}]
    if sub.capacity:
        found["capacity"] = {"requests": {name: _quantity(amount) for name, amount in sub.capacity.items()}}
    if sub.tolerations:
        found["tolerations"] = [
            {
                "key": each.key,
                "operator": "Exists" if each.exists else "Equal",
                "value": each.value,
                "effect": each.effect,
            }
            for each in sub.tolerations
        ]
    return found


def decode(found: Json) -> Case:
    """Return the case of such objects."""
    unready = any(each["spec"]["pool"]["name"] == "late" for each in found["slices"])
    slices = [each["spec"] for each in found["slices"] if each["spec"]["pool"]["name"] != "late"]
    pools = dict.fromkeys(each["pool"]["name"] for each in slices)
    reach = [_reach(name, [each for each in slices if each["pool"]["name"] == name]) for name in pools]
    names = [NodeName(NODE)] if unready else []
    inventory = build_inventory(build_fabric((node(NODE, NO_GPUS),)), {NodeName(NODE): reach}, names)
    held = [_read_given(each) for each in found["held"]]
    ask = Ask(claims=tuple(_read_claim(each) for each in found["claims"]))
    return Case(inventory, inventory.reach[0], held, ask, unready)


def _reach(name: str, slices: list[Json]) -> Reach:
    counters = {
        (each["name"], counter): _amount(value["value"])
        for spec in slices
        for each in spec.get("sharedCounters", ())
        for counter, value in each["counters"].items()
    }
    specs = [(each, spec["nodeName"] == NODE) for spec in slices for each in spec.get("devices", ())]
    devices = tuple(_read_device(each) for each, _ in specs)
    tainted = {
        at: tuple(Taint(t["key"], t["value"], Effect(t["effect"])) for t in each["taints"])
        for at, (each, _) in enumerate(specs)
        if each["taints"]
    }
    mask = sum(here << at for at, (_, here) in enumerate(specs))
    shape = PoolShape(driver="d", devices=devices, counters=counters)
    own: tuple[dict[str, Attribute], ...] = ({},) * len(devices)
    return Reach(Pool(driver="d", name=name, generation=1, shape=shape, identity=own, tainted=tainted), mask, True)


def _read_device(spec: Json) -> DeviceShape:
    return DeviceShape(
        name=spec["name"],
        attributes={
            name: Attribute(AttributeKind(kind), (value,))
            for name, typed in spec["attributes"].items()
            for kind, value in typed.items()
        },
        capacity={name: _read_capacity(each) for name, each in spec["capacity"].items()},
        consumes=tuple(
            CounterUse(use["counterSet"], counter, _amount(value["value"]))
            for use in spec.get("consumesCounters", ())
            for counter, value in use["counters"].items()
        ),
        multiple=spec["allowMultipleAllocations"],
        binding_conditions=tuple(spec.get("bindingConditions", ())),
    )


def _read_capacity(spec: Json) -> Capacity:
    policy = spec.get("requestPolicy")
    if policy is None:
        return Capacity(_amount(spec["value"]))
    bounds = policy.get("validRange", {})
    return Capacity(
        _amount(spec["value"]),
        RequestPolicy(
            default=_amount(policy["default"]) if "default" in policy else None,
            valid_values=tuple(_amount(value) for value in policy.get("validValues", ())),
            minimum=_amount(bounds["min"]) if "min" in bounds else None,
            maximum=_amount(bounds["max"]) if "max" in bounds else None,
            step=_amount(bounds["step"]) if "step" in bounds else None,
        ),
    )


def _read_given(spec: Json) -> Given:
    consumed = spec.get("consumedCapacity")
    amounts = None if consumed is None else {name: _amount(value) for name, value in consumed.items()}
    device = DeviceId(spec["driver"], spec["pool"], spec["device"])
    return Given(spec["request"], device, spec.get("adminAccess", False), amounts)


def _read_claim(spec: Json) -> ClaimAsk:
    requests = []
    for each in spec["spec"]["devices"]["requests"]:
        name = each["name"]
        subs = (
            [_read_sub(name, each["exactly"])]
            if "exactly" in each
            else [_read_sub(f"{name}/{sub['name']}", sub) for sub in each["firstAvailable"]]
        )
        requests.append(ClaimRequest(name=name, alternatives=tuple(subs)))
    constraints = tuple(
        Constraint(
            attribute=each.get("matchAttribute") or each["distinctAttribute"],
            distinct="distinctAttribute" in each,
            requests=frozenset(each["requests"]),
        )
        for each in spec["spec"]["devices"]["constraints"]
    )
    uid = ClaimUid(spec["metadata"]["uid"])
    return ClaimAsk(uid=uid, name=f"default/{uid}", requests=tuple(requests), constraints=constraints)


def _read_sub(name: str, spec: Json) -> SubRequest:
    selectors = spec.get("selectors", ())
    asked = spec.get("capacity", {}).get("requests", {})
    return SubRequest(
        name=name,
        selection=Wants(int(selectors[0]["cel"]["expression"][-1]) if selectors else None),
        count=spec.get("count", 1),
        all_devices=spec["allocationMode"] == "All",
        admin=spec.get("adminAccess", False),
        capacity={each: _amount(value) for each, value in asked.items()},
        tolerations=tuple(
            Toleration(each["key"], each["operator"] == "Exists", each["value"], each["effect"])
            for each in spec.get("tolerations", ())
        ),
    )


def drawn(number: int) -> list[Json]:
    """Return so many cases, the same in every run."""
    found: list[Json] = []

    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def collect(case: Case) -> None:
        found.append(encode(case))

    collect()
    return found


def main() -> None:
    """Write cases, or join answers to them."""
    if sys.argv[1] == "cases":
        lines = [json.dumps(each, separators=(",", ":")) for each in drawn(int(sys.argv[2]))]
    else:
        asked = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
        answers = [json.loads(line) for line in sys.stdin]
        lines = [
            json.dumps(json.loads(case) | answer, separators=(",", ":"))
            for case, answer in zip(asked, answers, strict=True)
        ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
