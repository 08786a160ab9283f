"""What the measuring verbs conclude from what they saw."""

import json

from cli.outage import busiest_second
from cli.takeover import Terms, acted_after
from libs.common import plimsoll_pb2 as pb
from libs.common.messages import Ack, LeaderClaim


def ack(command_id: str, status: str, at_ms: int) -> Ack:
    return Ack.model_validate({"command_id": command_id, "status": status, "at_ms": at_ms})


def test_a_fenced_leader_leaves_no_tick_after_its_successors_first() -> None:
    terms = Terms()
    for seen_s, (epoch, tick) in enumerate([(0, 1), (0, 2), (2, 3), (0, 3), (2, 4)]):
        terms.take(pb.TickRecord(epoch=epoch, tick=tick), float(seen_s))
    assert terms.out_of_turn == 1
    assert terms.last[0].tick == 2
    assert (terms.first[2].tick, terms.first_seen_s[2], terms.last[2].tick) == (3, 2.0, 4)


CLAIMS = {0: LeaderClaim(instance="a", at_ms=10), 4: LeaderClaim(instance="b", at_ms=100)}


def test_a_command_taken_on_after_a_later_claim_was_acted_on() -> None:
    acks = [ack("0-1-0", "accepted", 150), ack("0-1-0", "done", 160), ack("4-2-0", "done", 170)]
    assert acted_after(CLAIMS, acks) == 1


def test_a_command_taken_on_before_and_finished_after_the_claim_was_not() -> None:
    acks = [ack("0-1-0", "accepted", 50), ack("0-1-0", "done", 150)]
    assert acted_after(CLAIMS, acks) == 0


def test_a_command_that_was_refused_was_not() -> None:
    assert acted_after(CLAIMS, [ack("0-1-0", "failed", 150)]) == 0


def test_the_busiest_second_of_a_log_counts_tracebacks_with_their_line() -> None:
    def line(second: float) -> str:
        return json.dumps({"event": "x", "timestamp": f"1970-01-01T00:00:{second:04.1f}Z"})

    lines = [*[line(1.0)] * 9, line(5.0), "Traceback", "  File", line(6.0), line(7.0), line(7.1)]
    assert busiest_second(lines, 5_000, 7_000) == 3
    assert busiest_second(lines, 7_000, 8_000) == 2
    assert busiest_second([], 0, 1_000) == 0
