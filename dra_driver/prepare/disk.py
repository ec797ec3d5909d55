"""The disk's errors as ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from dra_driver.errors import RetryableError


@contextmanager
def disk(what: str) -> Iterator[None]:
    """Turn what the disk refuses into RetryableError; `what` (an infinitive) is told with the cause."""
    try:
        yield
    except OSError as fault:
        name = errno.errorcode.get(fault.errno or 0, "OSError")
        raise RetryableError(f"cannot {what}: {fault.strerror} ({name}); is the disk full or read-only?") from fault
