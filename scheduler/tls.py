"""TLS for an extender that is asked from outside its Pod: clients prove who they are, certificates may change.

A certificate of the serving pair, and authorities added to the clients' file, count for new connections at most POLL_S
after the files change. An authority taken out of the file is trusted until the next start.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

from scheduler.settings import TlsFiles
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

POLL_S = 20.0


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """Return TLS 1.2 or later that wants a certificate of each client. Raises InvalidInputError naming the files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        _load(context, files)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInputError("scheduler settings", "--tls-cert, --tls-key, --client-ca", str(error)) from error
    return context


async def keep_fresh(context: ssl.SSLContext, files: TlsFiles, *, poll_s: float = POLL_S) -> None:
    """Load the files again whenever they change, for ever. Files that cannot be used leave those before in use."""
    seen = _state(files)
    while True:
        await asyncio.sleep(poll_s)
        now = _state(files)
        if now == seen:
            continue
        try:
            _load(context, files)
        except OSError as error:
            log.error("certificates cannot be read, those before stay in use error=%r", str(error))
            continue  # a half-written pair: look again
        seen = now
        log.info("certificates read again")


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    # Into a context of its own first: a pair that does not match would be left half loaded.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.client_ca)


def _state(files: TlsFiles) -> tuple[tuple[int, int] | None, ...]:
    states: list[tuple[int, int] | None] = []
    for path in (files.certificate, files.key, files.client_ca):
        try:
            found = path.stat()
            states.append((found.st_mtime_ns, found.st_ino))
        except OSError:
            states.append(None)
    return tuple(states)
