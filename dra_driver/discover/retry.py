"""Discovery at start: again and again until the NVIDIA driver is there. Before that nothing is published."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dra_driver.discover.node import Discovered
from dra_driver.errors import RetryableError

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0

log = logging.getLogger(__name__)


def discover_when_loaded(attempt: Callable[[], Discovered], wait: Callable[[float], bool]) -> Discovered | None:
    """Return what the first successful `attempt` found; None when `wait` said to stop.

    `wait(seconds)` returns True once the program is to end, as threading.Event.wait does. Waits double up to 30 s. The
    cause is logged when it changes: the driver of a node may be installed hours after ours.
    """
    seconds, said = FIRST_WAIT_S, ""
    while True:
        try:
            return attempt()
        except RetryableError as error:
            if str(error) != said:
                said = str(error)
                log.warning("discovery waits: %s", said)
        if wait(seconds):
            return None
        seconds = min(2 * seconds, LONGEST_WAIT_S)
