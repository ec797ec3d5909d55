"""Where a program listens, as a flag says it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from topology.errors import InvalidInputError

MAX_PORT = 65535


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside this machine, or this Pod, can reach it."""
        return self.host == "localhost" or ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(what: str, flag: str, text: str, *, example: Address) -> Address:
    """Read HOST:PORT, [IPV6]:PORT or :PORT, which means all addresses. Raises InvalidInputError of `what`, `flag`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"  # noqa: S104 - what the user wrote; TLS is required then
    try:
        known = host == "localhost" or bool(ip_address(host))
    except ValueError:
        known = False
    if not colon or not known or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise InvalidInputError(what, flag, f"{text!r} is no address such as {example}")
    return Address(host, int(port))
