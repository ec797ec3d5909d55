"""The process: one event loop for kubelet, API server and probes; what touches GPUs and files runs in threads.

In this order, and each step only after the one before: NVML answers, what a former process left is put in order, the
sockets answer, the kubelet knows us, the slices are published. Told to end it goes the way back; what was prepared
stays prepared, and the slices stay, for the next process or the kubelet to take away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time

from dra_driver.answers import Answers
from dra_driver.assemble import NodeSide, check_kubelet, open_nvml
from dra_driver.errors import DeviceError
from dra_driver.nvml.api import NvmlError
from dra_driver.observe import Observed
from dra_driver.plugin.errors import RegistrationError, SocketError
from dra_driver.serving import Serving
from dra_driver.settings import Settings
from kube.access import Access
from kube.client import ApiClient
from kube.errors import ClusterError
from kube.running import Tasks, run
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""Between two looks for the GPUs, while there are none to be seen."""
END_S = 50.0
"""Longer than what is under way may take, shorter than the kubelet waits for our Pod's end."""
EXIT_HUNG = 1
"""As for any failure."""


def main(settings: Settings) -> str:
    """Run until told to end; return what failed, nothing for a clean end."""

    async def serve(told: asyncio.Event) -> None:
        await _serve(settings, told)

    try:
        return run(serve)
    except (ClusterError, InvalidInputError, SocketError, RegistrationError) as error:
        return str(error)


async def _serve(settings: Settings, told: asyncio.Event) -> None:
    began_s = time.monotonic()
    log.info("starting node=%s version=%s pid=%d", settings.node, settings.version, os.getpid())
    check_kubelet(settings.roots.kubelet)
    answers = Answers(settings)
    async with (
        ApiClient(Access(settings.kubeconfig)) as client,
        Observed(settings.listen, answers),
        asyncio.TaskGroup() as group,
    ):
        client.watch_calls(answers.metrics.called)
        tasks = Tasks(group)
        ended = group.create_task(_told(told))
        side = await _found(settings, answers, ended)
        if side is not None:
            await Serving(settings, client, answers, side, began_s).run(tasks, ended)
        tasks.stop()


async def _told(told: asyncio.Event) -> None:
    """Wait until told to end. From then on a thread that hangs in NVML or on a disk has until END_S."""
    await told.wait()
    log.info("ending")
    last = threading.Timer(END_S, _end_at_once)
    last.daemon = True
    last.start()


def _end_at_once() -> None:
    log.error("threads still hang after %.0f s; the journal tells the next start what they were at", END_S)
    logging.shutdown()
    os._exit(EXIT_HUNG)


async def _found(settings: Settings, answers: Answers, ended: asyncio.Task[None]) -> NodeSide | None:
    """Return the node's side once NVML has told of the GPUs; None where we were told to end before.

    The driver of a node may be installed long after we start. Until then nothing is published.
    """
    wait_s = FIRST_WAIT_S
    while not ended.done():
        try:
            side = await asyncio.to_thread(_look, settings)
        except (DeviceError, NvmlError) as error:
            if str(error) != answers.gpus:
                log.warning("waiting for GPUs: %s", error)
            answers.gpus = str(error)
            await asyncio.wait([ended], timeout=wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        else:
            answers.gpus = ""
            return side
    return None


def _look(settings: Settings) -> NodeSide:
    nvml = open_nvml(settings.roots)
    try:
        side = NodeSide.make(settings, nvml)
        node = side.inspection.look()
    except Exception:
        nvml.close()
        raise
    products = ",".join(sorted({gpu.product.replace(" ", "-") for gpu in node.gpus}))
    log.info("found gpus=%d products=%s driver=%s", len(node.gpus), products, node.driver_version)
    return side
