"""A port that was found free is free when its program listens, and when it does so again."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sandbox import ports
from sandbox.errors import SandboxError
from sandbox.ports import LOOPBACK, free_ports


def served(port: int) -> socket.socket:
    """A server on a port, made as servers in Go and Python make theirs."""
    return socket.create_server((LOOPBACK, port))


def test_a_found_port_is_open_to_a_server_and_to_its_successor() -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        with served(port) as server, socket.create_connection((LOOPBACK, port)):
            server.accept()[0].close()


def test_the_kernel_gives_found_ports_to_nobody() -> None:
    first, last = map(int, ports.KERNELS_CHOICE.read_text().split())
    assert not [port for port in free_ports(20) if first <= port <= last]


def only(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Let there be no other port on this machine."""
    monkeypatch.setattr(ports, "CHOICE", (port,))


def test_a_port_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sandboxes that start at a time do not get the same one, though nobody listens on it yet."""
    only(monkeypatch, free_ports(1)[0])
    with pytest.raises(SandboxError, match=r"only 0 of 1 ports are free on 127\.0\.0\.1"):
        free_ports(1)


def test_a_port_that_somebody_listens_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(0) as server:
        only(monkeypatch, server.getsockname()[1])
        with pytest.raises(SandboxError, match="only 0 of 1 ports are free"):
            free_ports(1)


def test_where_the_kernel_gives_away_all_ports_some_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = tmp_path / "ip_local_port_range"
    everything.write_text("1024\t65535\n")
    monkeypatch.setattr(ports, "KERNELS_CHOICE", everything)
    (port,) = free_ports(1)
    served(port).close()
