"""The demand of the scale benchmark: what suite X1 asks for, in 32 classes, on any number of nodes.

Classes and rates do not depend on the size of the cluster, so that only the number of nodes differs between runs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.quality.migcluster import MIXES
from simulator.quality.mixeddemand import Ask, asks_of

CLASSES = 32
SHARE_SEED = 0
"""Draws which of the 81 shares of X1 are asked for."""


def scale_asks() -> tuple[Ask, ...]:
    """Return the 32 classes: four of whole GPUs, six partitions (mean of X1's four mixes), 22 of X1's shares.

    Each of the three kinds offers the same GPU-hours.
    """
    mixes = list(MIXES)
    wholes = asks_of("whole", mixes[0])
    rates = np.mean([[ask.rate for ask in asks_of("partition", mix)] for mix in mixes], axis=0).tolist()
    partitions = tuple(replace(ask, rate=rate) for ask, rate in zip(asks_of("partition", mixes[0]), rates, strict=True))
    known = asks_of("share", mixes[0])
    count = CLASSES - len(wholes) - len(partitions)
    drawn = np.random.default_rng(SHARE_SEED).choice(len(known), count, replace=False)
    some = [known[at] for at in sorted(drawn.tolist())]
    total = sum(ask.gpus for ask in some)
    return (*wholes, *partitions, *(replace(ask, rate=1 / total) for ask in some))
