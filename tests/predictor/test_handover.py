"""Messages go into the stream at once where there is room; else they wait as Faust has it."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import mode
import pytest
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from services.predictor.handover import BURST, QUEUE_MAX, quicken


class Consumer(mode.Service):
    """Faust's own `wait_first`, which is that of every service."""


@pytest.fixture
async def app() -> AsyncIterator[Any]:
    """What `quicken` knows of an app, of Faust's own parts."""
    flow = FlowControlEvent(initially_suspended=False)
    consumer = Consumer()
    async with consumer:
        yield SimpleNamespace(consumer=consumer, flow_control=flow)


async def put(queue: Any, value: int) -> None:
    await queue.put(value)


async def test_where_there_is_room_nothing_is_waited_for(app: Any) -> None:
    quicken(app)
    queue: asyncio.Queue[int] = asyncio.Queue()
    suspended = asyncio.Event()
    call = app.consumer.wait_first(put(queue, 1), suspended.wait())
    with pytest.raises(StopIteration):
        call.send(None)
    assert queue.get_nowait() == 1


async def test_where_there_is_none_the_message_waits_and_then_goes_in(app: Any) -> None:
    quicken(app)
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(0)
    suspended = asyncio.Event()
    handing = asyncio.create_task(app.consumer.wait_first(put(queue, 1), suspended.wait()))
    await asyncio.sleep(0.01)
    assert not handing.done()
    assert queue.get_nowait() == 0
    async with asyncio.timeout(5):
        await handing
    assert queue.get_nowait() == 1


async def test_a_rebalance_interrupts_a_message_that_waits(app: Any) -> None:
    quicken(app)
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(0)
    suspended = asyncio.Event()
    handing = asyncio.create_task(app.consumer.wait_first(put(queue, 1), suspended.wait()))
    await asyncio.sleep(0.01)
    suspended.set()
    async with asyncio.timeout(5):
        await handing
    await asyncio.sleep(0.01)
    assert queue.get_nowait() == 0
    assert queue.empty(), "the message was let go of"


@pytest.mark.parametrize("waits", [False, True])
async def test_what_handing_over_raises_is_raised(app: Any, waits: bool) -> None:
    quicken(app)

    async def fail() -> None:
        await asyncio.sleep(0.001 if waits else 0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await app.consumer.wait_first(fail(), asyncio.Event().wait())


async def test_a_long_queue_gives_the_stream_time(app: Any) -> None:
    quicken(app)
    queue: Any = FlowControlQueue(flow_control=app.flow_control, clear_on_resume=True)
    longest, taken = 0, []

    async def stream() -> None:
        nonlocal longest
        while True:
            longest = max(longest, queue.qsize())
            taken.append(await queue.get())
            await asyncio.sleep(0)

    working = asyncio.create_task(stream())
    count = 20 * QUEUE_MAX
    for value in range(count):
        await app.consumer.wait_first(put(queue, value), asyncio.Event().wait())
    async with asyncio.timeout(5):
        while len(taken) < count:
            await asyncio.sleep(0.001)
    working.cancel()
    assert taken == list(range(count))
    assert longest <= QUEUE_MAX + BURST
