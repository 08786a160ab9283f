"""What is tried of our policy: one constant at a time, within what it may be."""

from bench.constants import AT_MOST, LEFT_OUT, varied
from services.scheduler.core.policy import Policy


def test_each_run_changes_one_constant_and_no_more() -> None:
    before = Policy()._asdict()
    for variant in varied():
        changed = {
            name: value
            for name, value in variant.setting._asdict().items()
            if value != before[name]
        }
        ((name, value),) = changed.items()
        assert variant.variant.startswith(name)
        assert type(value) is type(before[name])
        assert value <= AT_MOST.get(name, float("inf"))


def test_every_constant_is_tried_left_out_or_nothing() -> None:
    tried = {variant.variant.partition(" ")[0] for variant in varied()}
    nothing = {name for name, value in Policy()._asdict().items() if not value}
    assert tried | set(LEFT_OUT) | nothing == set(Policy._fields)
