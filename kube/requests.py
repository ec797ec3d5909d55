"""The requests of a claim, with their classes -> a `ClaimAsk`; or the reason why it can never be met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kube.cel import SelectorSyntaxError
from kube.cel import compile as compile_selector
from kube.linkwish import CONFIG_DRIVER, LinkTerms, decode_link
from kube.objects import (
    CapacityRequirements,
    DeviceClass,
    DeviceConstraint,
    DeviceRequest,
    DeviceSelector,
    DeviceSubRequest,
    DeviceToleration,
    ExactDeviceRequest,
    OpaqueDeviceConfiguration,
    ResourceClaim,
)
from kube.quantity import parse_quantity
from kube.refusal import Refusal, WishRefusal
from kube.resolved import Surroundings, ToAllocate
from kube.selections import RequestSelection, Sieves, quoted
from packing.dra.model import (
    MAX_RESULTS,
    Amount,
    ClaimAsk,
    ClaimRequest,
    ClaimUid,
    Constraint,
    SubRequest,
    Toleration,
)

ADMIN_LABEL = "resource.kubernetes.io/admin-access"
"""Label of namespaces whose claims may ask for adminAccess; its value must be "true"."""
ALL, EXACT = "All", "ExactCount"


def claim_name(claim: ResourceClaim) -> str:
    """Return `namespace/name`, and a name for a claim that has none yet."""
    return f"{claim.metadata.namespace}/{claim.metadata.name or '(extended resources)'}"


def read_claim(claim: ResourceClaim, around: Surroundings, sieves: Sieves) -> ToAllocate:
    """Return what an unallocated claim asks. Raises Refusal."""
    reader = _Reader(claim, around, sieves)
    reader.check_names()
    requests = tuple(reader.request(request) for request in claim.spec.devices.requests)
    _check_size(reader.name, requests)
    constraints = tuple(reader.constraint(at, each) for at, each in enumerate(claim.spec.devices.constraints))
    ask = ClaimAsk(uid=ClaimUid(claim.metadata.uid), name=reader.name, requests=requests, constraints=constraints)
    return ToAllocate(claim=claim, ask=ask, classes=reader.classes)


def _check_size(claim: str, requests: Iterable[ClaimRequest]) -> None:
    least = sum(min(1 if each.all_devices else each.count for each in request.alternatives) for request in requests)
    if least > MAX_RESULTS:
        text = f"claim {claim} asks for more than {MAX_RESULTS} devices"
        raise Refusal(text, "a claim holds no more; spread the devices over several claims")


class _Reader:
    """Reads the parts of one claim; `classes` are those met so far."""

    def __init__(self, claim: ResourceClaim, around: Surroundings, sieves: Sieves) -> None:
        self.name = claim_name(claim)
        self.classes: dict[str, DeviceClass] = {}
        self._claim, self._around, self._sieves = claim, around, sieves

    def check_names(self) -> None:
        """Refuse what the API server does not store, for claims that come from a file."""
        devices = self._claim.spec.devices
        names = [request.name for request in devices.requests]
        subs = [f"{each.name}/{sub.name}" for each in devices.requests for sub in each.first_available]
        for name, times in Counter(names + subs).items():
            if times > 1:
                raise Refusal(f"claim {self.name}: request {name} is there {times} times", "give each its own name")
        users = [(f"constraint {at}", each.requests) for at, each in enumerate(devices.constraints)]
        users += [(f"config {at}", each.requests) for at, each in enumerate(devices.config)]
        for user, wanted in users:
            for name in wanted:
                if name not in names and name not in subs:
                    raise Refusal(f"claim {self.name}: {user} is for request {name}, which is not there", "correct it")

    def request(self, request: DeviceRequest) -> ClaimRequest:
        where = f"claim {self.name}, request {request.name}"
        if request.exactly is not None:
            if request.exactly.admin_access:
                self._check_admin(where)
            alternatives = [self._alternative(request.name, request.exactly, admin=request.exactly.admin_access)]
        else:
            alternatives = [self._alternative(f"{request.name}/{each.name}", each) for each in request.first_available]
        if not alternatives:
            raise _unknown(f"{where} is of a type")
        return ClaimRequest(name=request.name, alternatives=tuple(alternatives))

    def constraint(self, at: int, constraint: DeviceConstraint) -> Constraint:
        distinct = constraint.match_attribute is None
        attribute = constraint.distinct_attribute if distinct else constraint.match_attribute
        if attribute is None:
            raise _unknown(f"claim {self.name}: constraint {at} is of a type")
        if "/" not in attribute:
            text = f"claim {self.name}: constraint {at}: attribute {attribute} has no domain"
            raise Refusal(text, f"write it as domain/{attribute}")
        return Constraint(attribute=attribute, distinct=distinct, requests=frozenset(constraint.requests))

    def _alternative(
        self, name: str, request: ExactDeviceRequest | DeviceSubRequest, *, admin: bool = False
    ) -> SubRequest:
        where = f"claim {self.name}, request {name}"
        device_class = self._class(where, request.device_class_name)
        if request.allocation_mode not in {ALL, EXACT}:
            raise _unknown(f"{where}: allocation mode {request.allocation_mode} is one")
        if request.derived_attributes:
            raise _unknown(f"{where}: derivedAttributes is a field")
        if request.allocation_mode == EXACT and request.count < 1:
            raise Refusal(f"{where}: count is {request.count}", "ask for one device or more")
        link = self._link(where, name, device_class)
        return SubRequest(
            name=name,
            selection=self._selection(where, device_class, request.selectors),
            count=request.count if request.allocation_mode == EXACT else 1,
            all_devices=request.allocation_mode == ALL,
            admin=admin,
            capacity=_capacity(where, request.capacity),
            tolerations=tuple(_toleration(each) for each in request.tolerations),
            link=link.wish,
            min_gbps=link.min_gbps,
        )

    def _class(self, where: str, name: str) -> DeviceClass:
        device_class = self.classes.get(name) or self._around.device_class(name)
        if device_class is None:
            raise Refusal(f"{where}: device class {name} does not exist", "create it, or name another")
        self.classes[name] = device_class
        return device_class

    def _selection(self, where: str, of: DeviceClass, own: Sequence[DeviceSelector]) -> RequestSelection:
        of_class = self._expressions(f"class {of.metadata.name}", of.spec.selectors)
        of_request = self._expressions(where, own)
        return RequestSelection(self._sieves.of(of_class + of_request), of.metadata.name, len(of_class), where)

    def _expressions(self, where: str, selectors: Sequence[DeviceSelector]) -> tuple[str, ...]:
        """Return the expressions, each of which compiles."""
        found: tuple[str, ...] = ()
        for at, selector in enumerate(selectors):
            if selector.cel is None:
                raise _unknown(f"{where}: selector {at} is of a type")
            try:
                compile_selector(selector.cel.expression)
            except SelectorSyntaxError as fault:
                text = f"{where}: selector {at} {quoted(selector.cel.expression)} does not compile: {fault}"
                raise Refusal(text, "correct the expression") from fault
            found += (selector.cel.expression,)
        return found

    def _check_admin(self, where: str) -> None:
        namespace = self._around.namespace(self._claim.metadata.namespace)
        if namespace is None or namespace.metadata.labels.get(ADMIN_LABEL) != "true":
            text = f"{where} asks for adminAccess in a namespace without the label {ADMIN_LABEL}"
            raise Refusal(text, f'label namespace {self._claim.metadata.namespace} with {ADMIN_LABEL}: "true"')

    def _link(self, where: str, name: str, device_class: DeviceClass) -> LinkTerms:
        """Return the link wish of a request: the last one in the claim that is for it, else the class's."""
        base = name.partition("/")[0]
        terms = LinkTerms()
        for at, of_class in enumerate(device_class.spec.config):
            terms = _link_of(f"class {device_class.metadata.name}: config {at}", of_class.opaque) or terms
        for at, own in enumerate(self._claim.spec.devices.config):
            if not own.requests or name in own.requests or base in own.requests:
                terms = _link_of(f"{where.partition(',')[0]}: config {at}", own.opaque) or terms
        return terms


def _link_of(where: str, opaque: OpaqueDeviceConfiguration | None) -> LinkTerms | None:
    if opaque is None:
        raise _unknown(f"{where} is of a type")
    if opaque.driver != CONFIG_DRIVER:
        return None
    try:
        return decode_link(opaque.parameters)
    except ValueError as fault:
        remedy = "docs/claims.md says how to write a link wish"
        raise WishRefusal(f"{where}: opaque parameters: {fault}", remedy) from fault


def _capacity(where: str, wanted: CapacityRequirements | None) -> dict[str, Amount]:
    """Return the amounts asked. The API server takes negative ones, which would make room out of nothing."""
    amounts = {name: parse_quantity(each) for name, each in wanted.requests.items()} if wanted is not None else {}
    for name, amount in amounts.items():
        if amount < 0:
            raise Refusal(f"{where}: capacity {name} is negative", "ask for nothing or more")
    return amounts


def _toleration(toleration: DeviceToleration) -> Toleration:
    return Toleration(
        key=toleration.key,
        exists=toleration.operator == "Exists",
        value=toleration.value,
        effect=toleration.effect,
        seconds=toleration.toleration_seconds,
    )


def _unknown(what: str) -> Refusal:
    return Refusal(f"{what} that this version of Dovetail does not know", "use another, or a newer Dovetail")
