"""Free ports on the loopback interface."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

from sandbox.errors import SandboxError

LOOPBACK = "127.0.0.1"
CHOICE = range(10_000, 65_536)
"""Below are the ports that programs are usually given by hand."""
FEWEST = 1000
"""With fewer ports left to choose from, those that the kernel gives to connections are taken too."""
KERNELS_CHOICE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""First and last port that the kernel gives to connections and to those who ask for any (ip(7))."""


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports that nobody uses, and that nobody gets by chance before their program has them.

    They are none of those that the kernel gives away, since a program that is killed and started again must find its
    port free. For a minute they are refused to others who look for a free port, such as other sandboxes that start.
    Raises SandboxError where too few are free.
    """
    first, last = map(int, KERNELS_CHOICE.read_text().split())
    ports = [port for port in CHOICE if not first <= port <= last]
    if len(ports) < FEWEST:
        ports = list(CHOICE)
    random.SystemRandom().shuffle(ports)  # a seeded choice would be the same in all processes of a test run
    found: list[int] = []
    for port in ports:
        if len(found) == count:
            break
        if _reserve(port):
            found.append(port)
    if len(found) < count:
        raise SandboxError(f"only {len(found)} of {count} ports are free on {LOOPBACK}; end programs that listen there")
    return found


def _reserve(port: int) -> bool:
    """Leave a closed connection (TIME_WAIT) on a port, if it is free.

    That keeps out everybody who does not set SO_REUSEADDR, as we do not here; servers set it.
    """
    with socket.socket() as listener:
        try:
            listener.bind((LOOPBACK, port))
        except OSError as fault:
            if fault.errno != errno.EADDRINUSE:
                raise
            return False
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or servers were kept out as well
        listener.listen()
        with socket.create_connection((LOOPBACK, port)):
            accepted, _ = listener.accept()
            accepted.close()  # before the other side: who closes first, waits
    return True
