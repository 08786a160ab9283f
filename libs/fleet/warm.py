"""Compiles the kernels, or reads them from the cache on disk: to be called before time matters.

The first time after a change of their text it takes half a minute of one core, else 0.2 s. The
cache lies beside the sources, or where `NUMBA_CACHE_DIR` says.
"""

from libs.common.messages import ModelSpec, Objective, StepLaw
from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from libs.fleet.spec import DeviceType, FleetSpec, NodeSpec


def warm() -> None:
    """Use each kernel once, on a fleet of one GPU."""
    node = NodeSpec(name="n", device_type="g", gpus=1, load_bytes_per_s=1.0, host_memory_bytes=2)
    spec = FleetSpec(device_types={"g": DeviceType(memory_bytes=4)}, nodes=(node,))
    model = ModelSpec(
        name="m",
        kind="llm",
        objective=Objective(ttft_ms=100, tpot_ms=100),
        weights_bytes=1,
        kv_tokens=8,
        law={"g": StepLaw(base_ms=1, prefill_token_ms=1, decode_seq_ms=1)},
    )
    fleet = FleetModel(spec, [model])
    name = fleet.place("m", "n-0", [0])
    fleet.submit(Requests.of([0], [0], [2], [2], block_offsets=[0, 2], blocks=[1, 2]))
    fleet.set_concurrency(name, 1)
    fleet.advance(100)
    fleet.take_ended()
    fleet.enter("m", 100.0, 1, 1)
    fleet.unload(name)
    fleet.schedule([(200, "fail", "n-0", 0)])
    fleet.revive("n-0")
    fleet.accounts()
    fleet.next_event_ms()
    fleet.advance(fleet.now_ms)
    fleet.load("m", "n-0", [0])
    fleet.drain("m@n-0:0")
