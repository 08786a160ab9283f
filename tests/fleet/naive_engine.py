"""An LLM engine of one replica, token by token in plain Python: slow, and made to be read.

It knows nothing of the kernels. `serve` returns first-token and end times, and preemptions.
"""

from dataclasses import dataclass, field

from libs.common.messages import StepLaw


@dataclass
class Sequence:
    due_ms: float
    prompt: int
    output: int
    blocks: list[int] = field(default_factory=list)
    generated: int = 0
    to_prefill: int = 0
    first_ms: float = -1.0
    ended_ms: float = -1.0
    preemptions: int = 0
    cached: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.generated


class Cache:
    """Blocks from the longest unused to the newest."""

    def __init__(self, block_tokens: int) -> None:
        self.size = block_tokens
        self.blocks: list[int] = []

    def hit(self, blocks: list[int]) -> int:
        n = 0
        while n < len(blocks) and blocks[n] in self.blocks:
            n += 1
        return n * self.size

    def use(self, blocks: list[int]) -> None:
        for block in reversed(blocks):
            if block in self.blocks:
                self.blocks.remove(block)
                self.blocks.append(block)

    def add(self, blocks: list[int], room: int) -> None:
        for block in reversed(blocks[: max(0, room // self.size)]):
            if block in self.blocks:
                self.blocks.remove(block)
            elif (len(self.blocks) + 1) * self.size > room:
                self.blocks.pop(0)
            self.blocks.append(block)

    def trim(self, room: int) -> None:
        while self.blocks and len(self.blocks) * self.size > room:
            self.blocks.pop(0)


def serve(
    sequences: list[Sequence],
    law: StepLaw,
    longest_ms: float,
    kv_tokens: int,
    most: int,
    block_tokens: int = 1,
) -> None:
    now_ms = 0.0
    coming = list(sequences)
    queue: list[Sequence] = []
    decoding: list[Sequence] = []
    prefilling: list[Sequence] = []
    cache = Cache(block_tokens)

    def held() -> int:
        return sum(s.tokens for s in decoding + prefilling)

    while coming or queue or decoding or prefilling:
        while coming and coming[0].due_ms <= now_ms:
            queue.append(coming.pop(0))
        if not (queue or decoding or prefilling):
            now_ms = coming[0].due_ms
            continue
        preempted = False
        while held() > kv_tokens and len(decoding) + len(prefilling) > 1:
            youngest = (prefilling or decoding).pop()
            youngest.preemptions += 1
            queue.insert(0, youngest)
            preempted = True
        while queue and not preempted and len(decoding) + len(prefilling) < most:
            spare = kv_tokens // 100 if decoding or prefilling else 0
            if queue[0].tokens > kv_tokens - held() - spare:
                break
            one = queue.pop(0)
            one.to_prefill = max(1, one.tokens - cache.hit(one.blocks))
            one.cached = one.tokens - one.to_prefill
            cache.use(one.blocks)
            prefilling.append(one)
        cache.trim(kv_tokens - held())
        read = sum(s.tokens for s in decoding)
        decodes_ms = law.base_ms + law.decode_seq_ms * len(decoding) + law.kv_token_ms * read
        chunk = int((longest_ms - decodes_ms) / law.prefill_token_ms + 1e-9)
        chunk = max(chunk, 0 if decoding else 1)
        chunk = min(chunk, sum(s.to_prefill for s in prefilling))
        now_ms += decodes_ms + law.prefill_token_ms * chunk
        for one in decoding:
            one.generated += 1
        while chunk:
            one = prefilling[0]
            taken = min(chunk, one.to_prefill)
            one.to_prefill -= taken
            chunk -= taken
            if one.to_prefill:
                break
            prefilling.pop(0)
            one.generated += 1
            if one.first_ms < 0:
                one.first_ms = now_ms
            decoding.append(one)
            cache.add(one.blocks, kv_tokens - held())
        for one in list(decoding):
            if one.generated >= min(one.output, kv_tokens - one.prompt):
                one.ended_ms = now_ms
                decoding.remove(one)
