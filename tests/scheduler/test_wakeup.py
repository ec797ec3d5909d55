"""Pods that wait are woken once for changes that come together, and nobody is woken for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kube.errors import ConflictError, NotFoundError, UnavailableError
from scheduler.wakeup import ANNOTATION, Wakeup, WakeupSettings


class Bell:
    def __init__(self) -> None:
        self.exists = True
        self.raced = False
        self.broken = 0
        self.rung: list[str] = []
        self.created: list[Mapping[str, Any]] = []

    async def change(self, change: Mapping[str, Any]) -> None:
        if self.broken:
            self.broken -= 1
            raise UnavailableError("no answer")
        if not self.exists:
            raise NotFoundError("no such claim", status=404)
        self.rung.append(change["metadata"]["annotations"][ANNOTATION])

    async def create(self, claim: Mapping[str, Any]) -> None:
        self.exists = True
        if self.raced:
            raise ConflictError("exists", status=409)
        self.created.append(claim)


def story(bell: Bell, asks: int, *, waiting: bool = True, turns: int = 8) -> list[float]:
    """Ask some times, let the wake-ups run for some pauses, and return these."""
    pauses: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) >= turns:
            done.set()
        await asyncio.sleep(0)

    async def run() -> None:
        tokens = iter(range(1000))
        settings = WakeupSettings(namespace="dovetail")
        wakeup = Wakeup(bell, settings, waits=lambda: waiting, token=lambda: str(next(tokens)), sleep=sleep)
        task = asyncio.create_task(wakeup.run())
        for _ in range(asks):
            wakeup.ask()
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    return pauses


def test_changes_that_come_together_wake_once() -> None:
    bell = Bell()
    story(bell, 100)
    assert bell.rung == ["0"]


def test_nobody_is_woken_when_nobody_waits() -> None:
    bell = Bell()
    story(bell, 3, waiting=False)
    assert bell.rung == []


def test_the_claim_is_made_where_it_is_missing() -> None:
    bell = Bell()
    bell.exists = False
    story(bell, 1)
    assert [claim["metadata"]["name"] for claim in bell.created] == ["dovetail-wakeup"]


def test_two_replicas_that_make_the_claim_at_once_do_no_harm() -> None:
    bell = Bell()
    bell.exists, bell.raced = False, True
    story(bell, 1)
    assert bell.created == []


def test_a_wake_up_that_failed_is_repeated() -> None:
    bell = Bell()
    bell.broken = 2
    story(bell, 1)
    assert len(bell.rung) == 1


def test_t21_wake_ups_keep_a_distance() -> None:
    """A second between them, however often devices become free: no hot loop of waiting pods."""
    pauses = story(Bell(), 1)
    assert pauses[1] == 1.0
