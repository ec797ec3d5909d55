"""Bindings by turns: never more at once than allowed, first come first served, and the door opens when one leaves."""

from __future__ import annotations

import asyncio

from scheduler.turns import Turns


def test_so_many_at_once_in_the_order_of_arrival() -> None:
    async def scenario() -> tuple[list[int], int]:
        turns, order, most, now = Turns(at_once=3, most=100), list[int](), 0, 0

        async def one(number: int) -> None:
            nonlocal most, now
            async with turns.one():
                now += 1
                most = max(most, now)
                order.append(number)
                await asyncio.sleep(0)
                now -= 1

        await asyncio.gather(*map(one, range(20)))
        return order, most

    assert asyncio.run(scenario()) == (list(range(20)), 3)


def test_room_waits_until_one_leaves() -> None:
    async def scenario() -> None:
        turns, end = Turns(at_once=1, most=2), asyncio.Event()

        async def one() -> None:
            async with turns.one():
                await end.wait()

        held = [asyncio.create_task(one()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(turns.room(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        end.set()
        await waiting
        await asyncio.gather(*held)

    asyncio.run(scenario())


def test_room_does_not_wait_for_ever_and_not_at_all_where_there_is_room() -> None:
    async def scenario() -> None:
        turns = Turns(at_once=1, most=1)
        await turns.room(60)
        async with turns.one():
            await turns.room(0)

    asyncio.run(scenario())


def test_who_fails_leaves_too() -> None:
    async def scenario() -> None:
        turns = Turns(at_once=1, most=1)
        try:
            async with turns.one():
                raise ValueError
        except ValueError:
            pass
        await turns.room(60)

    asyncio.run(scenario())
