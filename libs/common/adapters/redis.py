"""The cache in Redis: a hash for each topic, with the newest value of each key.

Keys, with the prefix of the bus's topics after `plimsoll:`
- `<topic>`: record key -> value, as it stands on the bus;
- `<topic>:offset`: record key -> its offset, so that of two writers the one that lags never wins;
- `filled:<writer>`: the mark of one writer, which goes when Redis is emptied;
- `kept`: there for some seconds after each write, so that a reader knows that it is kept up.

Redis must not evict (`maxmemory-policy noeviction`, its default): a part that goes is not noticed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from libs.common.ports import KeyOf, R, Record
from libs.common.settings import without_password
from libs.common.topics import Topic

# A call takes less than a millisecond; one that takes so long is no quick copy any more.
CALL_S = 0.5
MARK_S = 60
KEPT_S = 5

# KEYS: mark, kept. ARGV: how long each lasts, in seconds. A writer whose mark is gone may have
# written only a part of all since, and vouches for nothing.
_VOUCH = """
local there = redis.call('EXPIRE', KEYS[1], ARGV[1])
if there == 1 then redis.call('SET', KEYS[2], KEYS[1], 'EX', ARGV[2]) end
return there
"""
# KEYS: values, offsets. ARGV: key, offset, 1 or 0 for a tombstone, value; and so on.
_PUT = """
for i = 1, #ARGV, 4 do
  local key, offset = ARGV[i], tonumber(ARGV[i + 1])
  if offset >= tonumber(redis.call('HGET', KEYS[2], key) or -1) then
    redis.call('HSET', KEYS[2], key, ARGV[i + 1])
    if ARGV[i + 2] == '1' then
      redis.call('HSET', KEYS[1], key, ARGV[i + 3])
    else
      redis.call('HDEL', KEYS[1], key)
    end
  end
end
"""
# KEYS: values, offsets. ARGV: key, the offset that it must have; and so on.
_FORGET = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i])
  end
end
"""


class RedisCache:
    """The cache at one URL, for one writer. Made by `connect`."""

    def __init__(self, client: "Redis", prefix: str, writer: str) -> None:
        self._client = client
        self._space = f"plimsoll:{prefix}"
        self._mark = f"{self._space}filled:{writer}"

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, prefix: str, writer: str) -> AsyncIterator["RedisCache"]:
        """Yield a cache, whether or not it answers: it connects with each call that needs it."""
        # We retry by our own pace, and only with what is newest then.
        # Its own time limit rests on wait_for, which loses cancellations; `_bounded` is enough.
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=None)
        try:
            yield cls(client, prefix, writer)
        finally:
            await client.aclose()

    async def begin(self, topics: Sequence[Topic]) -> dict[KeyOf, int]:
        """Leave the mark of this writer; returns the offsets held."""
        pipe = self._client.pipeline()
        pipe.set(self._mark, 1, ex=MARK_S)
        for topic in topics:
            pipe.hgetall(f"{self._space}{topic.name}:offset")
        _, *held = await _bounded(pipe.execute())
        return {
            (topic.name, key): int(offset)
            for topic, offsets in zip(topics, held, strict=True)
            for key, offset in offsets.items()
        }

    async def put(self, records: Sequence[Record], forget: Mapping[KeyOf, int] = {}) -> bool:
        """Write all in one transaction and round trip; returns whether the mark is there."""
        pipe = self._client.pipeline()
        pipe.eval(_VOUCH, 2, self._mark, f"{self._space}kept", MARK_S, KEPT_S)
        lost: dict[str, list[bytes | int]] = {}
        for (topic, key), offset in forget.items():
            lost.setdefault(topic, []).extend((key, offset))
        new: dict[str, list[bytes | int]] = {}
        for r in records:
            there = (r.key or b"", r.offset, int(r.value is not None), r.value or b"")
            new.setdefault(r.topic, []).extend(there)
        for script, arguments in ((_FORGET, lost), (_PUT, new)):
            for topic, values in arguments.items():
                name = self._space + topic
                pipe.eval(script, 2, name, f"{name}:offset", *cast(list[Any], values))
        there_still, *_ = await _bounded(pipe.execute())
        return bool(there_still)

    async def newest(self, topics: Sequence[Topic]) -> dict[KeyOf, bytes]:
        """Return what is held, in one round trip; nothing where no writer is at work."""
        pipe = self._client.pipeline()
        pipe.exists(f"{self._space}kept")
        for topic in topics:
            pipe.hgetall(self._space + topic.name)
        kept, *held = await _bounded(pipe.execute())
        return {
            (topic.name, key): value
            for topic, values in zip(topics, held, strict=True)
            for key, value in values.items()
            if kept
        }


async def _bounded(call: Awaitable[R]) -> R:
    """Wait for a call, connecting included, for at most `CALL_S`. Raises ConnectionError."""
    try:
        async with asyncio.timeout(CALL_S):
            return await call
    except TimeoutError as error:
        raise ConnectionError(f"no answer within {CALL_S:g} s") from error
    except (RedisError, OSError) as error:
        raise ConnectionError(without_password(str(error))) from error
