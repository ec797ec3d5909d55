"""`dovetail scheduler` with another janitor: `off` mends nothing, `soon` does so after seconds instead of a minute.

python -m tests.scheduler.program off scheduler --listen ...
"""

from __future__ import annotations

import sys
from functools import partial

from dovetail.cli import main
from scheduler import assemble
from scheduler.janitor import Janitor, JanitorSettings

SOON = JanitorSettings(stuck_s=2, doubled_s=1, bare_s=2, leftover_s=5)


class Idle(Janitor):
    """Looks at nothing."""

    async def step(self) -> None:
        """Do nothing."""


JANITORS = {"off": Idle, "soon": partial(Janitor, settings=SOON)}

if __name__ == "__main__":
    vars(assemble)["Janitor"] = JANITORS[sys.argv.pop(1)]
    main()
