"""Log lines: time, level, module, message in key=value words; on stderr, safe for any terminal.

Texts from outside are logged with %r. What escapes that (a library's message, a traceback) has its control characters
escaped here, line ends of tracebacks excepted.
"""

from __future__ import annotations

import logging
import time

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


class Formatter(logging.Formatter):
    """2026-11-21T18:20:22.123Z INFO scheduler.app started mode=allocate."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line without a traceback."""
        return super().formatMessage(record).translate(_ESCAPES).replace("\n", "\\n")

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Return a traceback."""
        return super().formatException(ei).translate(_ESCAPES)  # type: ignore[arg-type]


def set_up(level: str) -> None:
    """Log to stderr from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(max(LEVELS[level], logging.WARNING))
