"""The prefix cache of a replica: blocks of prompts seen, the longest unused going first.

A block's number stands for its tokens and all before them, so a prompt's cached part is its blocks
up to the first one missing. The cache lives in what the running sequences leave of the KV pool, and
never takes memory from them.
"""

from libs.fleet.jit import entry, kernel
from libs.fleet.tables import World, blocks, buckets, cache, models, replicas, requests

MIX = 0x9E3779B97F4A7C15 >> 1  # Fibonacci hashing, kept positive


@entry
def clear(w: World, r: int) -> None:
    """Empty the cache of a replica."""
    replica = replicas(w)[r]
    places = cache(w)
    n = places.shape[1]
    for i in range(n):
        places[r, i].chain = i + 1 if i + 1 < n else -1
    for i in range(buckets(w).shape[1]):
        buckets(w)[r, i] = -1
    replica.cache_blocks = 0
    replica.cache_head = -1
    replica.cache_tail = -1
    replica.cache_free = 0


@kernel
def _bucket(w: World, block: int) -> int:
    return ((block * MIX) >> 17) & (buckets(w).shape[1] - 1)


@kernel
def _find(w: World, r: int, block: int) -> int:
    places = cache(w)
    i = buckets(w)[r, _bucket(w, block)]
    while i >= 0 and places[r, i].block != block:
        i = places[r, i].chain
    return i


@kernel
def _unlink(w: World, r: int, i: int) -> None:
    replica = replicas(w)[r]
    places = cache(w)
    newer, older = places[r, i].newer, places[r, i].older
    if newer >= 0:
        places[r, newer].older = older
    else:
        replica.cache_head = older
    if older >= 0:
        places[r, older].newer = newer
    else:
        replica.cache_tail = newer


@kernel
def _link_newest(w: World, r: int, i: int) -> None:
    replica = replicas(w)[r]
    places = cache(w)
    places[r, i].newer = -1
    places[r, i].older = replica.cache_head
    if replica.cache_head >= 0:
        places[r, replica.cache_head].newer = i
    else:
        replica.cache_tail = i
    replica.cache_head = i


@kernel
def _evict_oldest(w: World, r: int) -> None:
    replica = replicas(w)[r]
    places = cache(w)
    i = replica.cache_tail
    _unlink(w, r, i)
    b = places[r, i].bucket
    j = buckets(w)[r, b]
    if j == i:
        buckets(w)[r, b] = places[r, i].chain
    else:
        while places[r, j].chain != i:
            j = places[r, j].chain
        places[r, j].chain = places[r, i].chain
    places[r, i].chain = replica.cache_free
    replica.cache_free = i
    replica.cache_blocks -= 1


@kernel
def cached_tokens(w: World, r: int, q: int) -> int:
    """Return how many tokens of a prompt's start a replica has in its cache."""
    request = requests(w)[q]
    n = 0
    while n < request.n_blocks and _find(w, r, blocks(w)[request.block_start + n]) >= 0:
        n += 1
    return n * models(w)[request.model].block_tokens


@kernel
def trim(w: World, r: int) -> None:
    """Make the cache give way to what the running sequences hold."""
    replica = replicas(w)[r]
    size = models(w)[replica.model].block_tokens
    room = replica.kv_tokens - replica.context - replica.reserved
    while replica.cache_blocks > 0 and replica.cache_blocks * size > room:
        _evict_oldest(w, r)


@kernel
def use(w: World, r: int, q: int, insert: bool) -> None:
    """Mark a prompt's blocks as used just now; with `insert`, add those that are missing.

    The last block of a chain is marked first, so that the beginning outlives the end.
    """
    replica = replicas(w)[r]
    request = requests(w)[q]
    places = cache(w)
    size = models(w)[replica.model].block_tokens
    room = replica.kv_tokens - replica.context - replica.reserved
    n_most = min(request.n_blocks, places.shape[1], room // size) if insert else request.n_blocks
    for k in range(n_most - 1, -1, -1):
        block = blocks(w)[request.block_start + k]
        i = _find(w, r, block)
        if i >= 0:
            _unlink(w, r, i)
            _link_newest(w, r, i)
        elif insert:
            if replica.cache_free < 0 or (replica.cache_blocks + 1) * size > room:
                _evict_oldest(w, r)
            i = replica.cache_free
            replica.cache_free = places[r, i].chain
            b = _bucket(w, block)
            places[r, i].block = block
            places[r, i].bucket = b
            places[r, i].chain = buckets(w)[r, b]
            buckets(w)[r, b] = i
            _link_newest(w, r, i)
            replica.cache_blocks += 1
