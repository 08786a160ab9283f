import math

import numpy as np
import pytest

from libs.common import plimsoll_pb2 as pb
from libs.common.errors import SettingError
from libs.common.messages import BatchLaw
from libs.common.settings import load
from services.scheduler.core.contracts import Observation, initial_state
from services.scheduler.core.policy import Policy
from services.scheduler.observation import Sources, observe
from services.scheduler.settings import SchedulerSettings
from tests.scheduler.fleets import GB, Fleet, a_forecast, a_model, some_devices


def seen_with(forecast: pb.LoadForecast) -> Observation:
    fleet = Fleet(a_model())
    fleet.view.forecasts["chat"] = forecast
    return fleet.observe()


def test_what_a_forecast_does_not_say_is_not_known_rather_than_zero() -> None:
    seen = seen_with(pb.LoadForecast(model="chat", newest_sample_ms=5, next_by_ms=9))
    for values in (seen.arrival_rate_rps, seen.queue_requests, seen.slo_ratio_p98):
        assert math.isnan(values[0])
    assert seen.horizon_ms.shape == (1, 0)
    assert (seen.newest_sample_ms[0], seen.next_by_ms[0]) == (5, 9)


def test_devices_may_come_and_go_before_any_node_reports() -> None:
    sources = Sources({}, {})
    for nodes in (0, 1, 3, 2):
        sources.devices = {device.device: device for device in some_devices(nodes, 2)}
        for tick in range(2):
            seen = observe(sources, initial_state(), 1, tick, 1000)
            assert seen.reported_ms.tolist() == [-1] * 2 * nodes
            assert seen.memory_free.tolist() == [-1] * 2 * nodes
            assert seen.replicas == ()


def test_infinite_and_undefined_numbers_count_as_not_known() -> None:
    forecast = a_forecast("chat", 100, math.inf, queue_requests=math.nan)
    forecast.peak_10s_quantile_rps[2] = math.inf
    seen = seen_with(forecast)
    assert math.isnan(seen.arrival_rate_rps[0])
    assert math.isnan(seen.queue_requests[0])
    assert math.isnan(seen.peak_rps[0, 0, 2])


def test_quantiles_that_do_not_fit_their_horizons_are_passed_over() -> None:
    forecast = a_forecast("chat", 100, 10.0)
    del forecast.peak_10s_quantile_rps[-1]
    seen = seen_with(forecast)
    assert np.isnan(seen.peak_rps).all()
    assert seen.arrival_rate_rps[0] == 10.0


def test_a_measured_law_replaces_that_of_the_registry_if_it_makes_sense() -> None:
    forecast = a_forecast("chat", 100, 10.0)
    forecast.law["h100"].alpha_ms, forecast.law["h100"].beta_ms = 25.0, 6.0
    seen = seen_with(forecast)
    assert (seen.alpha_ms[0, 0], seen.beta_ms[0, 0]) == (25.0, 6.0)
    forecast.law["h100"].beta_ms = -1.0
    assert seen_with(forecast).beta_ms[0, 0] == 5.0


def test_a_device_type_without_a_law_is_not_known() -> None:
    fleet = Fleet(a_model(law={"a100": BatchLaw(alpha_ms=9, beta_ms=9)}))
    assert math.isnan(fleet.observe().alpha_ms[0, 0])
    assert not fleet.step().commands[:-1]  # a target, but no place


def test_a_replica_on_a_gpu_that_is_not_registered_is_not_planned_with() -> None:
    fleet = Fleet(a_model(weights_bytes=GB), nodes=1, gpus=1)
    fleet.run(1, {"chat": 10})
    assert fleet.observe().replicas == ("chat@n-0:0",)
    view = fleet.view
    state = view.fleet["n-0"]
    view.devices["n-0/0"] = view.devices["n-0/0"].model_copy(update={"gpu": 5})
    assert state.replicas[0].gpus == (0,)
    assert fleet.observe().replicas == ()


def test_settings_reach_the_policy_and_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SchedulerSettings().scheduler.policy() == Policy()
    monkeypatch.setenv("PLIMSOLL_SCHEDULER__SHRINK_HOLD_S", "2.5")
    assert load(SchedulerSettings).scheduler.policy().shrink_hold_ms == 2500
    monkeypatch.setenv("PLIMSOLL_SCHEDULER__UTIL_TARGET", "1.5")
    with pytest.raises(SettingError, match="SCHEDULER__UTIL_TARGET='1\\.5'"):
        load(SchedulerSettings)


def test_forecasts_of_different_length_stand_in_their_own_rows() -> None:
    fleet = Fleet(*(a_model(name) for name in "abc"))
    fleet.view.forecasts["a"] = a_forecast("a", 100, 10.0)
    short = fleet.view.forecasts["c"] = a_forecast("c", 100, 30.0)
    del short.horizon_ms[1:], short.peak_10s_quantile_rps[6:]
    seen = fleet.observe()
    nan = math.nan
    horizons_ms = [[200, 10_000, 60_000], [nan] * 3, [200, nan, nan]]
    np.testing.assert_array_equal(seen.horizon_ms, horizons_ms)
    np.testing.assert_array_equal(seen.peak_rps[:, :, 0], [[10] * 3, [nan] * 3, [30, nan, nan]])


def test_a_node_whose_replicas_come_and_go_is_seen_as_it_is() -> None:
    fleet = Fleet(a_model("a", replicas_min=2), a_model("b", replicas_min=2), nodes=2, gpus=2)
    for step in range(40):
        fleet.run(0.2, {"a": 50, "b": 50})
        if step % 7 == 6:
            fleet.lose(fleet.replicas_of("ab"[step % 2])[0])
        kept, anew = fleet.observe(), observe(_afresh(fleet.view), fleet.state, 7, 0, 0)
        for name in ("replicas", "replica_model", "replica_stage", "replica_devices"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(anew, name))
        for name in ("reported_ms", "memory_free", "replica_memory_bytes"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(anew, name))


def _afresh(view: Sources) -> Sources:
    return Sources(view.models, view.devices, view.fleet, view.forecasts)
