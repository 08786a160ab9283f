"""The engine of an LLM replica: continuous batching with chunked prefill, one iteration at a time.

An iteration takes base + prefill_token x chunk + decode_seq x n + kv_token x K: `chunk` tokens of
prompts, n sequences that decode, K tokens of context that those read. The chunk is as large as the
longest iteration allows, for prompts alone too; prompts are taken first come, first served. The
end of a prompt brings the first token; each later one is a decode, which reads the prompt and all
tokens before it.

Nothing is decided by the length of an answer: a sequence is admitted where its prompt fits beside
what runs, and where the KV pool runs full, the youngest goes back to the queue, and what it had is
computed again. The first `decoding` of a replica's sequences decode, the others are in their
prompts; both in the order of admission.
"""

from libs.fleet import prefix
from libs.fleet.jit import kernel
from libs.fleet.outcomes import end_served
from libs.fleet.queues import held_pop, held_prepend
from libs.fleet.runs import after_run, occupy, vacate
from libs.fleet.tables import (
    FOREVER,
    World,
    gpus,
    laws,
    models,
    replica_gpus,
    replicas,
    requests,
    sequences,
)

# Of the KV pool, what an admission leaves to those that decode: 1 part in this many, as vLLM does.
WATERMARK = 100


@kernel
def kv_reads(prompt: int, from_token: int, to_token: int) -> float:
    """Return the tokens read by the decodes of token from + 1 to `to`: of j + 1, prompt + j."""
    n = to_token - from_token
    return 0.0 if n <= 0 else n * (prompt + 0.5 * (from_token + to_token - 1))


@kernel
def prefill_left(w: World, r: int, q: int) -> int:
    """Return the tokens of a prompt that a replica would have to compute; one at least."""
    request = requests(w)[q]
    tokens = request.prompt_tokens + request.generated
    if request.n_blocks > 0:
        return max(1, tokens - prefix.cached_tokens(w, r, q))
    return tokens


@kernel
def prefill_iterations(w: World, r: int, tokens: int, n: int, context: int) -> float:
    """Return how many of the longest iterations prompts take beside n decodes of `context`."""
    replica = replicas(w)[r]
    decodes_ms = replica.decode_ms * n + replica.kv_ms * context
    left_ms = replica.iteration_max_ms - replica.base_ms - decodes_ms
    return tokens / max(1.0, left_ms / replica.prefill_ms)


@kernel
def _longest(w: World, r: int, q: int) -> int:
    """Return the tokens after which an answer ends: complete, or cut short as the pool is full."""
    request = requests(w)[q]
    return max(1, min(request.output_tokens, replicas(w)[r].kv_tokens - request.prompt_tokens))


@kernel
def generated(w: World, r: int, q: int) -> int:
    """Return the tokens of a decoding sequence so far."""
    return _longest(w, r, q) - (requests(w)[q].finish_tick - replicas(w)[r].tick)


@kernel
def _preempt_youngest(w: World, r: int) -> None:
    """Send the sequence admitted last back to the queue; what it had is to be computed again."""
    replica = replicas(w)[r]
    model = models(w)[replica.model]
    replica.running_in -= 1
    q = sequences(w)[r, replica.running_in]
    request = requests(w)[q]
    if replica.running_in < replica.decoding:
        replica.decoding -= 1
        request.generated = generated(w, r, q)
        replica.context -= request.prompt_tokens + request.generated
    else:
        replica.reserved -= request.prompt_tokens + request.generated
    wasted_ms = (
        replica.prefill_ms * request.done
        + replica.decode_ms * max(0, request.generated - request.joined)
        + replica.kv_ms * kv_reads(request.prompt_tokens, request.joined, request.generated)
    )
    for i in range(replica.n_gpus):
        gpus(w)[replica_gpus(w)[r, i]].wasted_ms += wasted_ms
    replica.pending -= request.todo
    request.done = 0
    request.todo = request.prompt_tokens + request.generated
    replica.pending += request.todo
    request.preemptions += 1
    model.preemptions += 1
    model.queue += 1
    model.in_flight -= 1
    held_prepend(w, r, q)


@kernel
def _join(w: World, r: int, q: int) -> None:
    """Let a sequence that has come with its KV decode on, behind those that do."""
    replica = replicas(w)[r]
    request = requests(w)[q]
    for i in range(replica.running_in, replica.decoding, -1):
        sequences(w)[r, i] = sequences(w)[r, i - 1]
    sequences(w)[r, replica.decoding] = q
    replica.decoding += 1
    replica.running_in += 1
    replica.context += request.prompt_tokens + request.generated
    request.done = 0
    request.joined = request.generated
    request.finish_tick = replica.tick + _longest(w, r, q) - request.generated
    replica.next_finish = min(replica.next_finish, request.finish_tick)
    models(w)[replica.model].queue -= 1
    models(w)[replica.model].in_flight += 1


@kernel
def _admit(w: World, r: int) -> None:
    """Take sequences from the queue while their prompts fit."""
    replica = replicas(w)[r]
    model = models(w)[replica.model]
    most = min(replica.batch_size, sequences(w).shape[1])
    while replica.head >= 0 and replica.running_in < most:
        q = replica.head
        request = requests(w)[q]
        tokens = request.prompt_tokens + request.generated
        room = replica.kv_tokens - replica.context - replica.reserved
        if replica.running_in > 0:
            room -= replica.kv_tokens // WATERMARK
        if tokens > room:
            return
        held_pop(w, r)
        if request.todo == 0:  # it has come with its KV
            _join(w, r, q)
            continue
        replica.pending -= request.todo
        request.todo = prefill_left(w, r, q)
        replica.pending += request.todo
        request.cached_tokens = tokens - request.todo
        if request.cached_tokens > 0:
            prefix.use(w, r, q, False)
        request.done = 0
        request.joined = request.generated
        sequences(w)[r, replica.running_in] = q
        replica.running_in += 1
        replica.reserved += tokens
        model.queue -= 1
        model.in_flight += 1


@kernel
def start_iteration(w: World, r: int) -> bool:
    """Start the next iteration of a replica on its idle GPUs; False when it has nothing to do."""
    replica = replicas(w)[r]
    full = False
    while replica.context + replica.reserved > replica.kv_tokens and replica.running_in > 1:
        _preempt_youngest(w, r)
        full = True
    if not full:
        _admit(w, r)
    if replica.cache_blocks > 0:
        prefix.trim(w, r)
    if replica.running_in == 0:
        return False
    n = replica.decoding
    decodes_ms = replica.base_ms + replica.decode_ms * n + replica.kv_ms * replica.context
    chunk = 0
    if replica.running_in > n:
        left_ms = replica.iteration_max_ms - decodes_ms
        most = max(int(left_ms / replica.prefill_ms + 1e-9), 0 if n > 0 else 1)
        for i in range(n, replica.running_in):
            chunk += requests(w)[sequences(w)[r, i]].todo
            if chunk >= most:
                chunk = most
                break
    replica.chunk = chunk
    replica.running = replica.running_in
    replica.iteration_ms = decodes_ms + replica.prefill_ms * chunk
    occupy(w, r, replica.iteration_ms)
    return True


@kernel
def _end_prefills(w: World, r: int) -> None:
    """Give the chunk to the prompts, and let those that are through begin to decode."""
    replica = replicas(w)[r]
    left = replica.chunk
    i = replica.decoding
    while left > 0:
        q = sequences(w)[r, i]
        request = requests(w)[q]
        taken = min(request.todo, left)
        request.todo -= taken
        request.done += taken
        replica.pending -= taken
        left -= taken
        if request.todo > 0:
            break
        replica.reserved -= request.prompt_tokens + request.generated
        request.generated += 1
        request.joined = request.generated
        replica.held_tokens += 1
        replica.context += request.prompt_tokens + request.generated
        replica.decoding += 1
        if request.first_ms < 0:
            request.first_ms = w.now_ms
        if request.n_blocks > 0:
            prefix.use(w, r, q, True)
        request.finish_tick = replica.tick + _longest(w, r, q) - request.generated
        replica.next_finish = min(replica.next_finish, request.finish_tick)
        i += 1


@kernel
def _end_finished(w: World, r: int) -> int:
    """End the sequences that are through; return how many."""
    replica = replicas(w)[r]
    law = laws(w)[replica.model, gpus(w)[replica_gpus(w)[r, 0]].device_type]
    kept = 0
    replica.next_finish = FOREVER
    for i in range(replica.running_in):
        q = sequences(w)[r, i]
        request = requests(w)[q]
        if i < replica.decoding and request.finish_tick <= replica.tick:
            request.generated = _longest(w, r, q)
            tokens = request.prompt_tokens + request.generated
            replica.context -= tokens
            replica.held_tokens -= tokens
            request.batch_size = replica.decoding
            law.done_requests += 1
            law.done_prefill_tokens += max(0, request.prompt_tokens - request.cached_tokens)
            law.done_decodes += request.generated - 1
            law.done_kv_reads += kv_reads(request.prompt_tokens, 1, request.generated)
            end_served(w, q)
        else:
            if i < replica.decoding:
                replica.next_finish = min(replica.next_finish, request.finish_tick)
            sequences(w)[r, kept] = q
            kept += 1
    ended = replica.running_in - kept
    replica.running_in = kept
    replica.decoding -= ended
    replica.held -= ended
    models(w)[replica.model].in_flight -= ended
    return ended


@kernel
def end_iteration(w: World, r: int) -> None:
    """End the running iteration: a token for each that decoded, and the prompts moved on."""
    replica = replicas(w)[r]
    n = replica.decoding
    law = laws(w)[replica.model, gpus(w)[replica_gpus(w)[r, 0]].device_type]
    law.iterations += 1
    law.prefill_tokens += replica.chunk
    law.decodes += n
    law.kv_reads += replica.context
    law.iteration_ms += replica.iteration_ms
    replica.tick += 1
    replica.context += n
    replica.held_tokens += n
    _end_prefills(w, r)
    ended = 0
    if replica.tick >= replica.next_finish:
        ended = _end_finished(w, r)
    replica.since_ms = w.now_ms
    replica.running = replica.running_in
    vacate(w, r, ended, replica.iteration_ms)
    if ended > 0:
        after_run(w, r)
