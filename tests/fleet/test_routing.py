"""The router's law, on outlooks made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.fleet.routing import Choice, Outlook, choose, predicted_ms

IDLE = Outlook(
    concurrency=8, held=0, waiting=0, oldest_waited_ms=0.0, free_in_ms=0.0,
    batch_size=4, wait_ms=0.0, alpha_ms=100.0, beta_ms=10.0,
)  # fmt: skip


def chosen(
    *outlooks: Outlook | None, waited_ms: float = 0.0, theta: float = 0.7, reject: bool = False
) -> Choice:
    return choose(
        outlooks, waited_ms=waited_ms, objective_ms=500.0, theta=theta, reject_late=reject
    )


@pytest.mark.parametrize(
    ("seen", "ends_in_ms"),
    [
        (IDLE, 110),
        (IDLE._replace(free_in_ms=30), 140),
        (IDLE._replace(wait_ms=20), 130),
        # The wait for others passes while the GPU is busy anyway.
        (IDLE._replace(wait_ms=20, free_in_ms=30), 140),
        # The batch that is joined has waited for 15 of its 20 ms.
        (IDLE._replace(wait_ms=20, waiting=1, held=1, oldest_waited_ms=15), 125),
        # Its arrival fills the batch, which then waits no longer.
        (IDLE._replace(wait_ms=20, waiting=3, held=3), 140),
        # One full batch ahead (140), then its own of two.
        (IDLE._replace(waiting=5, held=5), 260),
    ],
)
def test_a_prediction_is_rest_plus_batches_ahead_plus_the_own_batch(
    seen: Outlook, ends_in_ms: float
) -> None:
    assert predicted_ms(seen) == pytest.approx(ends_in_ms)


def test_the_first_replica_takes_all_it_can_and_the_next_wakes_only_then() -> None:
    # theta x 500 = 350 ms: the first may have 230 ms before a batch of two, which takes 120.
    busy = IDLE._replace(free_in_ms=230, waiting=1, held=5)
    assert chosen(busy, IDLE) == 0
    assert chosen(busy._replace(free_in_ms=231), IDLE) == 1


def test_what_a_request_has_waited_for_counts_against_its_objective() -> None:
    assert chosen(IDLE._replace(free_in_ms=100), IDLE, waited_ms=140) == 0
    assert chosen(IDLE._replace(free_in_ms=100), IDLE, waited_ms=141) == 1


def test_a_replica_at_its_concurrency_or_not_resident_is_passed_over() -> None:
    assert chosen(IDLE._replace(held=8), None, IDLE) == 2
    assert chosen(IDLE._replace(concurrency=0), IDLE) == 1


def test_best_effort_takes_the_smallest_prediction_where_none_fits() -> None:
    late = IDLE._replace(free_in_ms=900)
    assert chosen(late, late._replace(free_in_ms=800), late) == 1


def test_without_room_anywhere_a_request_waits() -> None:
    assert chosen() == "wait"
    assert chosen(IDLE._replace(held=8), None) == "wait"


def test_a_request_is_rejected_only_past_its_objective_and_only_if_asked() -> None:
    # Above theta x objective, within the objective: still served.
    assert chosen(IDLE._replace(free_in_ms=380), reject=True) == 0
    assert chosen(IDLE._replace(free_in_ms=391), reject=True) == "reject"
    assert chosen(IDLE._replace(free_in_ms=391), reject=False) == 0


def test_later_replicas_are_not_looked_at_once_one_fits() -> None:
    looked_at = []

    def outlooks():  # type: ignore[no-untyped-def]
        for place in range(3):
            looked_at.append(place)
            yield IDLE

    chosen_place = choose(outlooks(), waited_ms=0, objective_ms=500, theta=0.7, reject_late=False)
    assert (chosen_place, looked_at) == (0, [0])


outlooks = st.builds(
    lambda running, **seen: Outlook(held=seen["waiting"] + running, **seen),
    running=st.integers(0, 8),
    concurrency=st.integers(0, 64),
    waiting=st.integers(0, 40),
    oldest_waited_ms=st.floats(0, 100),
    free_in_ms=st.floats(0, 1000),
    batch_size=st.integers(1, 16),
    wait_ms=st.floats(0, 100),
    alpha_ms=st.floats(0, 200),
    beta_ms=st.floats(0.1, 50),
)


@given(outlooks, st.floats(0, 500))
def test_more_work_ahead_never_shortens_a_prediction_by_more_than_the_wait(
    seen: Outlook, more_ms: float
) -> None:
    later = seen._replace(free_in_ms=seen.free_in_ms + more_ms)
    assert predicted_ms(later) >= predicted_ms(seen)
    assert predicted_ms(seen) >= seen.free_in_ms + seen.alpha_ms + seen.beta_ms - 1e-9
    # A request more ahead can only help by filling a batch that would have waited.
    behind = seen._replace(waiting=seen.waiting + 1, held=seen.held + 1)
    assert predicted_ms(behind) >= predicted_ms(seen) - seen.wait_ms - 1e-9


@given(st.lists(outlooks, max_size=5), st.floats(0, 400), st.floats(0.1, 1))
def test_the_choice_is_the_first_that_fits_or_else_the_quickest(
    seen: list[Outlook], waited_ms: float, theta: float
) -> None:
    choice = chosen(*seen, waited_ms=waited_ms, theta=theta)
    room = [place for place, one in enumerate(seen) if one.held < one.concurrency]
    fits = [place for place in room if predicted_ms(seen[place]) <= theta * 500.0 - waited_ms]
    if not room:
        assert choice == "wait"
    elif fits:
        assert choice == fits[0]
    else:
        assert choice == min(room, key=lambda place: predicted_ms(seen[place]))
