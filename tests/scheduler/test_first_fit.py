import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.core.first_fit import fill, members_of
from services.scheduler.core.rendezvous import digests, preference


@st.composite
def fleets(draw):
    """Replicas of two models, each on one or two of four GPUs."""
    replicas = draw(st.integers(1, 8))
    model = np.array(draw(st.lists(st.integers(0, 1), min_size=replicas, max_size=replicas)))
    first = draw(st.lists(st.integers(0, 3), min_size=replicas, max_size=replicas))
    second = draw(st.lists(st.integers(-1, 3), min_size=replicas, max_size=replicas))
    capacity = draw(st.lists(st.floats(0, 200), min_size=replicas, max_size=replicas))
    devices = np.array([[a, -1 if a == b else b] for a, b in zip(first, second, strict=True)])
    return np.array(capacity), model, devices


loads = st.lists(st.floats(0, 500), min_size=2, max_size=2).map(np.array)


@settings(deadline=None)  # the first call compiles
@given(fleets(), loads)
def test_no_load_is_lost_and_no_gpu_is_used_above_what_is_left(fleet, load):
    capacity, model, devices = fleet
    members = members_of(model, model >= 0, 2)
    got = fill(load, capacity, members, devices, np.full(4, 0.7))
    for m in range(2):
        served = (got.used * capacity)[model == m].sum()
        assert np.isclose(served + got.lacking_rps[m], load[m], atol=1e-4)
    for gpu in range(4):
        used = got.used[(devices == gpu).any(axis=1)].sum()
        assert used <= 0.7 + 1e-9
        assert np.isclose(used + got.left[gpu], 0.7)


@settings(deadline=None)
@given(fleets(), loads, st.floats(1, 4))
def test_more_load_never_needs_fewer_replicas(fleet, load, times):
    capacity, model, devices = fleet
    members = members_of(model, model >= 0, 2)
    few = fill(load, capacity, members, devices, np.full(4, 0.7))
    first_only = load * np.array([times, 1.0])
    many = fill(first_only, capacity, members, devices, np.full(4, 0.7))
    assert many.needed[0] >= few.needed[0]
    assert many.lacking_rps[0] >= few.lacking_rps[0] - 1e-6


def test_the_first_replica_is_full_before_the_second_is_used():
    members = members_of(np.zeros(3, np.int64), np.ones(3, np.bool_), 1)
    devices = np.array([[0], [1], [2]])
    got = fill(np.array([100.0]), np.full(3, 100.0), members, devices, np.full(3, 0.7))
    assert np.allclose(got.used, [0.7, 0.3, 0.0])
    assert got.needed.tolist() == [2]


def test_a_place_that_goes_moves_only_what_it_had_won():
    keys, places = range(200), range(12)
    of_key = digests(tuple(f"model-{i}" for i in keys))
    of_place = digests(tuple(f"n-{i}/0" for i in places))

    def winner(key, places):
        return max(places, key=lambda place: preference(of_key[key], of_place[place], 1.0))

    before = {key: winner(key, places) for key in keys}
    after = {key: winner(key, places[1:]) for key in keys}
    moved = {key for key in keys if before[key] != after[key]}
    assert moved == {key for key in keys if before[key] == 0}
    assert 5 < len(moved) < 35  # 200 / 12 are expected


def test_twice_the_weight_wins_twice_as_often():
    keys = digests(tuple(f"model-{i}" for i in range(3000)))
    big, small = digests(("big", "small"))
    wins = sum(preference(key, big, 2.0) > preference(key, small, 1.0) for key in keys)
    assert 0.63 < wins / len(keys) < 0.70
