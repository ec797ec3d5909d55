"""Hostile messages for every method that the plugin serves, from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.pb import pluginregistration_v1_pb2 as registration
from dra_driver.plugin.plugin import MAX_REQUEST

DRA = "/k8s.io.kubelet.pkg.apis.dra"
PREPARES = tuple(f"{DRA}.{version}.DRAPlugin/NodePrepareResources" for version in ("v1", "v1beta1"))
UNPREPARES = tuple(f"{DRA}.{version}.DRAPlugin/NodeUnprepareResources" for version in ("v1", "v1beta1"))
REGISTRATION = tuple(f"/pluginregistration.Registration/{method}" for method in ("GetInfo", "NotifyRegistrationStatus"))
STREAMS = tuple(f"/{version}.DRAResourceHealth/NodeWatchResources" for version in ("v1", "v1alpha1"))
UNKNOWN = ("/", "/x/y", f"{DRA}.v2.DRAPlugin/NodePrepareResources", "/" + "a" * 4000)

TEXTS = (
    "",
    ".",
    "..",
    "../../../../etc/passwd",
    "/dev/nvidia0",
    "a/b=c",
    "line\nbreak",
    "nul\0nul",
    "\x1b[31mred",
    "%s%n{0}",
    "${HOME}",
    "a" * 253,
    "a" * 254,
    "A" * 10_000,
    "gpu-\uff10",
    "\u0430dmin",
    "\U0001f4a5",
    "\u202e gnp",
    "11111111-1111-4111-8111-111111111111",
    "11111111-1111-4111-8111-11111111111G",
    "11111111-1111-4111-8111-111111111111/..",
)


def text(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(TEXTS)
    return "".join(
        chr(rng.choice((rng.randrange(0x20), rng.randrange(0x7F), rng.randrange(0xA0, 0xD800)))) for _ in range(9)
    )


def prepare(rng: random.Random) -> bytes:
    claims = [
        dra.Claim(namespace=text(rng), name=text(rng), uid=text(rng)) for _ in range(rng.choice((0, 1, 1, 2, 5, 40)))
    ]
    return dra.NodePrepareResourcesRequest(claims=claims).SerializeToString()


def status(rng: random.Random) -> bytes:
    return registration.RegistrationStatus(plugin_registered=rng.random() < 0.5, error=text(rng)).SerializeToString()


def mutated(rng: random.Random, message: bytes) -> bytes:
    """Flip, cut, double or insert bytes."""
    changed = bytearray(message or b"\x0a\x00")
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.choice((0, 0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 1, 4)))
    return bytes(changed)


def message(rng: random.Random, make: Callable[[random.Random], bytes]) -> bytes:
    """Well-formed with hostile fields, or hardly formed, or not at all, or too much."""
    chance = rng.random()
    if chance < 0.6:
        return make(rng)
    if chance < 0.9:
        return mutated(rng, make(rng))
    if chance < 0.999:
        return rng.randbytes(rng.choice((1, 7, 100, 3000)))
    return bytes(MAX_REQUEST + rng.choice((-1, 0, 1, MAX_REQUEST)))


def unary(rng: random.Random) -> tuple[str, bytes]:
    """Return a method and what it is sent."""
    methods: Sequence[str] = rng.choice((PREPARES, UNPREPARES, UNPREPARES, REGISTRATION, UNKNOWN))
    return rng.choice(methods), message(rng, status if methods is REGISTRATION else prepare)


def frames(rng: random.Random) -> bytes:
    """Return bytes for a raw connection: nothing like HTTP/2, or the beginning of it and then frames of chance."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(1, 400))
    made = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for _ in range(rng.randrange(1, 8)):
        body = rng.randbytes(rng.choice((0, 4, 8, 60)))
        length = len(body) if rng.random() < 0.8 else rng.randrange(1 << 24)
        stream = rng.choice((0, 1, 3, 0x7FFFFFFF)).to_bytes(4, "big")
        made += length.to_bytes(3, "big") + bytes((rng.randrange(12), rng.randrange(256))) + stream + body
    return made
