"""What `make throughput` fills in is one load in two forms; its yardsticks know what is right."""

import itertools
import json
from base64 import b64decode

import numpy as np
import pytest

from bench.throughput import __main__ as throughput
from bench.throughput.__main__ import Round
from bench.throughput.load import EWMA_GAIN, SOURCES, ewmas, load_of, samples, ticks
from bench.throughput.worker import Stopwatch, Task, fold
from libs.common import plimsoll_pb2 as pb
from libs.common.ticks import Chains
from tests.predictor.conftest import START_MS

COUNT = 100


def task(messages: int) -> Task:
    return Task("", "", messages, 2, COUNT, START_MS)


@pytest.mark.parametrize("count", [47, 100, 1000])
def test_a_tick_has_as_many_samples_as_asked_and_each_source_its_own_models(count: int) -> None:
    load = load_of(count, START_MS)
    assert [len(layout.series) for layout in load.layouts] == [count] * SOURCES
    models = [{one.model for one in layout.series} - {""} for layout in load.layouts]
    assert not set.intersection(*models)
    assert len({layout.layout_id for layout in load.layouts}) == SOURCES


def test_ticks_and_samples_tell_the_same_values() -> None:
    load = load_of(COUNT, START_MS)
    chains, rounds = [Chains() for _ in range(SOURCES)], 30
    told = []
    for message in itertools.islice(ticks(load), rounds * SOURCES):
        assert message.partition is not None
        tick = pb.Tick.FromString(message.value or b"")
        layout = load.layouts[message.partition]
        assert int(layout.layout_id, 16) == tick.layout
        values = chains[message.partition].read(tick, layout)
        assert isinstance(values, np.ndarray)
        told.append((tick.at_ms, values.tolist()))
    alone = [json.loads(m.value or b"") for m in itertools.islice(samples(load), rounds * COUNT)]
    for n in range(rounds):
        of_tick = alone[n * COUNT : (n + 1) * COUNT]
        expected = (of_tick[0]["timestamp"], [sample["value"] for sample in of_tick])
        assert told[n * SOURCES : (n + 1) * SOURCES] == [expected] * SOURCES
    assert len({sample["name"] for sample in alone}) == COUNT


def test_counters_never_fall_and_what_came_ends_in_a_bucket() -> None:
    load = load_of(COUNT, START_MS)
    rows = np.array([row for _, row in itertools.islice(load.rows(), 120)])
    assert (np.diff(rows[:, ~load.is_gauge], axis=0) >= 0).all()
    metrics = np.array([one.metric for one in load.layouts[0].series])
    of = {metric: rows[-1, metrics == metric].sum() for metric in set(metrics)}
    assert of["arrivals_total"] == of["ends_ok_total"] + of["ends_late_total"]
    assert of["arrivals_total"] == of["latency_ratio_total"]


@pytest.mark.parametrize("messages", [1, COUNT, 7 * COUNT + 13])
def test_the_closed_form_of_an_ewma_is_what_the_steps_come_to(messages: int) -> None:
    load = load_of(COUNT, START_MS)
    found: dict[str, float] = {}
    for message in itertools.islice(samples(load), messages):
        sample = json.loads(message.value or b"")
        before = found.get(sample["name"], sample["value"])
        found[sample["name"]] = before + EWMA_GAIN * (sample["value"] - before)
    assert ewmas(load, messages) == pytest.approx(found, rel=1e-12)


def test_the_core_in_a_bare_loop_foresees_every_model() -> None:
    load, messages = load_of(COUNT, START_MS), 200 * SOURCES
    filled = [(m.partition or 0, m.value or b"") for m in itertools.islice(ticks(load), messages)]
    told = fold(filled, task(messages))
    assert told["decode_us"] > 0
    assert told["core_us"] > 0
    for partition, data in enumerate(told["forecasts"]):
        said = pb.LoadForecasts.FromString(b64decode(data))
        assert said.partition == partition
        assert said.at_ms == START_MS + 199 * load.period_ms
        names = {one.model for one in load.layouts[partition].series} - {""}
        assert {forecast.model for forecast in said.forecasts} == names
        for forecast in said.forecasts:
            assert len(forecast.horizon_ms) == 4, "the lead time is one of the horizons"


def test_a_stopwatch_counts_what_comes_after_the_warm_ones() -> None:
    watch = Stopwatch(task(10))
    for batch in (1, 3, 4):
        watch.count(batch)
        assert not watch.done.is_set()
    watch.count(2)
    assert watch.done.is_set()
    assert watch.told()["wall_us"] > 0


def test_shares_sum_to_one_and_the_limit_is_client_and_core() -> None:
    one = Round(
        agent_us=70, client_us=2, faust_us=40, decode_us=10, core_us=20, whole_us=88, wall_us=90,
        sent=0.1,
    )  # fmt: skip
    assert sum(one.shares().values()) == pytest.approx(1)
    assert one.shares()["Faust"] == pytest.approx(38 / 88)
    assert one.ratio(1000) == pytest.approx(1000 * 70 / 88)
    assert one.share_of_limit() == pytest.approx(22 / 88)
    figures = throughput._figures({1000: [one], 20_000: [one._replace(whole_us=200)]})
    assert figures == {
        "samples_per_s": 100_000_000,
        "ratio_to_per_sample_agent": {"1000": 795, "20000": 7000},
        "share_of_limit": 0.11,
    }
