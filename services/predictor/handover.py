"""Faust hands a message to its stream without four tasks, where nothing has to be waited for.

For each message Faust (0.15.3, `Consumer._drain_messages`) waits for the first of: the message is
in the stream's queue, the flow is suspended, the consumer stopped or crashed. It makes a task of
each, which is more than half of all that it takes for a message, though there is nearly always room
in the queue. Here the first one is begun at once, and only if it has to wait do the others come in,
as Faust has it. So a rebalance still interrupts a message that waits.
"""

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

import faust

# Faust's tasks, on their way, let the stream take what is in its queue. Without them it is given
# time by hand: a full queue makes Faust leave its partition out of the fetches for a second.
BURST = 64  # messages, from one look at the queue to the next
QUEUE_MAX = 256
PAUSE_S = 0.002  # the stream does not take `QUEUE_MAX` messages in it
PAUSES_MAX = 50  # then the stream hangs, and Faust goes on as it would


def quicken(app: faust.App) -> None:
    """Let the app's consumer hand messages over at once where it can. Call it before the start."""
    consumer: Any = app.consumer
    wait_first = consumer.wait_first
    handed = 0

    async def begin_first(first: Any, *others: Any, **options: Any) -> Any:
        nonlocal handed
        if not isinstance(first, Coroutine):
            return await wait_first(first, *others, **options)
        handed += 1
        if handed % BURST == 0:
            await _let_the_stream_work(app)
        try:
            waits_for = first.send(None)
        except StopIteration:
            for other in others:
                other.close()
            return None  # the consumer does not look at what came of it
        return await wait_first(_finish(first, waits_for), *others, **options)

    consumer.wait_first = begin_first


async def _let_the_stream_work(app: faust.App) -> None:
    for _ in range(PAUSES_MAX):
        if all(queue.qsize() <= QUEUE_MAX for queue in app.flow_control._queues):
            return
        await asyncio.sleep(PAUSE_S)


async def _finish(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    """Await a coroutine that has run up to a first wait, for what it then yielded."""
    return await _go_on(begun, waits_for)


@types.coroutine
def _go_on(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            answer = yield waits_for
        except GeneratorExit:
            begun.close()
            raise
        except BaseException as error:
            step = partial(begun.throw, error)
        else:
            step = partial(begun.send, answer)
        try:
            waits_for = step()
        except StopIteration as ended:
            return ended.value
