"""An extender that can be reached from outside talks to clients with a certificate of its authority alone."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from scheduler.settings import TlsFiles
from scheduler.tls import keep_fresh, make_context
from topology.errors import InvalidInputError

HOST = "127.0.0.1"


class Party:
    """Files of a serving pair and of the authority that signs clients."""

    def __init__(self, folder: Path) -> None:
        self.serving, self.clients = trustme.CA(), trustme.CA()
        self.files = TlsFiles(certificate=folder / "tls.crt", key=folder / "tls.key", client_ca=folder / "ca.crt")
        self.clients.cert_pem.write_to_path(str(self.files.client_ca))
        self.renew()

    def renew(self) -> None:
        pair = self.serving.issue_cert(HOST)
        pair.private_key_pem.write_to_path(str(self.files.key))
        pair.cert_chain_pems[0].write_to_path(str(self.files.certificate))

    def client(self, signed_by: trustme.CA | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.serving.configure_trust(context)
        if signed_by is not None:
            signed_by.issue_cert("kube-scheduler").configure_cert(context)
        return context


@pytest.fixture
def party(tmp_path: Path) -> Party:
    return Party(tmp_path)


async def serial(port: int, context: ssl.SSLContext) -> int:
    """Say something, and return the serial number of the certificate that answers."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    try:
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        return int(writer.get_extra_info("peercert")["serialNumber"], 16)
    finally:
        writer.close()


def run(context: ssl.SSLContext, story: Callable[[int], Awaitable[None]]) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        await writer.drain()
        writer.close()

    async def told() -> None:
        async with asyncio.timeout(30), await asyncio.start_server(echo, HOST, 0, ssl=context) as server:
            await story(server.sockets[0].getsockname()[1])

    asyncio.run(told())


def test_only_clients_of_the_authority_are_heard(party: Party) -> None:
    async def story(port: int) -> None:
        assert await serial(port, party.client(party.clients)) > 0
        for stranger in (None, trustme.CA(), party.serving):
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                await serial(port, party.client(stranger))

    run(make_context(party.files), story)


def test_old_versions_of_tls_are_refused(party: Party) -> None:
    async def story(port: int) -> None:
        old = party.client(party.clients)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await serial(port, old)

    run(make_context(party.files), story)


def test_a_new_certificate_is_used_without_a_restart_and_a_broken_one_never(
    party: Party, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context(party.files)

    async def story(port: int) -> None:
        client = party.client(party.clients)
        first = await serial(port, client)
        fresh = asyncio.create_task(keep_fresh(context, party.files, poll_s=0.01))
        await asyncio.sleep(0)  # it begins
        shutil.copy(party.files.client_ca, party.files.certificate)  # no certificate of this key
        while "those before stay in use" not in caplog.text:
            await asyncio.sleep(0)
        assert await serial(port, client) == first
        party.renew()
        while await serial(port, client) == first:
            await asyncio.sleep(0)
        fresh.cancel()

    run(context, story)


def test_files_that_cannot_be_used_are_named_by_their_flags(party: Party) -> None:
    party.files.key.write_text("no key")
    with pytest.raises(InvalidInputError, match="--tls-cert"):
        make_context(party.files)
