"""IP addresses and CIDR prefixes. IPv4-mapped IPv6 addresses and zones are refused."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from kube.cel import types
from kube.cel.compare import register_equality
from kube.cel.errors import SelectorFault
from kube.cel.values import KubernetesValue, Value, register

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_BITS = re.compile(r"0|[1-9][0-9]{0,2}")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class IP(KubernetesValue):
    """An address."""

    address: Address

    @property
    def size(self) -> int:  # type: ignore[override]
        """Its bytes."""
        return self.address.max_prefixlen // 8


@dataclass(frozen=True, slots=True)
class CIDR(KubernetesValue):
    """An address (its host bits are kept) and the length of the prefix."""

    address: Address
    bits: int

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of the prefix."""
        return -(-self.bits // 8)


def _network(cidr: CIDR) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(f"{cidr.address}/{cidr.bits}", strict=False)


def parse_any_address(text: str) -> Address:
    """Read an address, with zone or not. Raises ValueError."""
    return ipaddress.ip_address(text)


def _address(text: str) -> Address:
    try:
        found = parse_any_address(text)
    except ValueError as fault:
        raise SelectorFault(f"IP address {text!r} parse error during conversion from string: {fault}") from None
    if isinstance(found, ipaddress.IPv6Address) and (found.scope_id is not None or found.ipv4_mapped is not None):
        raise SelectorFault(f"IP address {text!r} with a zone, or IPv4-mapped, is not allowed")
    return found


def _cidr(text: str) -> CIDR:
    head, slash, bits = text.rpartition("/")
    if not slash or not _BITS.fullmatch(bits):
        raise SelectorFault(f"network address {text!r} parse error during conversion from string")
    address = _address(head)
    if int(bits) > address.max_prefixlen:
        raise SelectorFault(f"network address {text!r}: prefix length out of range")
    return CIDR(address, int(bits))


def _is(parse: Callable[[str], Value]) -> Callable[[str], bool]:
    def can(text: str) -> bool:
        try:
            parse(text)
        except SelectorFault:
            return False
        return True

    return can


def _contains_ip(cidr: CIDR, address: Address) -> bool:
    return address in _network(cidr)


def _contains_cidr(one: CIDR, two: CIDR) -> bool:
    if one.address.version != two.address.version:
        return False
    return _network(one).overlaps(_network(two)) and one.bits <= two.bits


def _global_unicast(ip: IP) -> bool:
    at = ip.address
    return not (at.is_unspecified or at == _BROADCAST or at.is_loopback or at.is_multicast or at.is_link_local)


def _link_local_multicast(ip: IP) -> bool:
    packed = ip.address.packed
    if len(packed) == 4:
        return packed[:3] == b"\xe0\x00\x00"
    return packed[0] == 0xFF and packed[1] & 0x0F == 0x02


def _masked(cidr: CIDR) -> CIDR:
    return CIDR(_network(cidr).network_address, cidr.bits)


def _same(kind: type) -> Callable[[Value, Value], bool]:
    def same(one: Value, two: Value) -> bool:
        if type(two) is not kind:
            raise SelectorFault(f"no such overload: == of {kind.__name__} and something else")
        return bool(one == two)

    return same


for _kind, _type in ((IP, types.IP), (CIDR, types.CIDR)):
    register(_kind, _type)
    register_equality(_kind, _same(_kind))

BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    "string_to_ip": lambda text: IP(_address(text)),
    "cidr_ip": lambda cidr: IP(cidr.address),
    "is_ip": _is(_address),
    "ip_is_canonical": lambda text: str(_address(text)) == text,
    "ip_family": lambda ip: ip.address.version,
    "ip_is_unspecified": lambda ip: ip.address.is_unspecified,
    "ip_is_loopback": lambda ip: ip.address.is_loopback,
    "ip_is_link_local_multicast": _link_local_multicast,
    "ip_is_link_local_unicast": lambda ip: ip.address.is_link_local,
    "ip_is_global_unicast": _global_unicast,
    "ip_to_string": lambda ip: str(ip.address),
    "string_to_cidr": _cidr,
    "is_cidr": _is(_cidr),
    "cidr_to_string": lambda cidr: f"{cidr.address}/{cidr.bits}",
    "cidr_contains_ip_string": lambda cidr, text: _contains_ip(cidr, _address(text)),
    "cidr_contains_ip_ip": lambda cidr, ip: _contains_ip(cidr, ip.address),
    "cidr_contains_cidr_string": lambda cidr, text: _contains_cidr(cidr, _cidr(text)),
    "cidr_contains_cidr": _contains_cidr,
    "cidr_prefix_length": lambda cidr: cidr.bits,
    "cidr_masked": _masked,
}
