"""What a client and a supervisor say to each other: one JSON object per line, answered in order.

    start   name argv env hostname cwd health
                                         run a program; its output goes to logs/<name>.log
    again   name                         run an ended program as it was started last
    signal  name number                  send a signal to a program
    status                               all programs: pid, returncode, resident memory, health check
    stay    on                           live on without clients (until `end`), or no longer
    keep                                 copy the logs aside when it ends
    end                                  take everything away, answer, exit
    bye                                  this client leaves on purpose; a client that just vanishes makes the logs stay

Every answer has `ok`; a refusal has `error`.
"""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]

SOCKET_NAME = "control.sock"
MAX_LINE = 1 << 20
"""Bytes of one message; a longer one ends the connection."""
