"""The core: what an order asks, and what it is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages import QUANTITY_MAX, InventoryOrder, OrderLine
from libs.common.ports import Shortage
from services.inventory.core.orders import event_id, fall_short, judge, read, settle

NOW_MS = 1_000

lines = st.lists(
    st.builds(OrderLine, item=st.sampled_from("abc"), quantity=st.integers(1, 9)),
    min_size=1,
    max_size=6,
)
orders = st.builds(
    InventoryOrder,
    order_id=st.just("o"),
    kind=st.sampled_from(["order", "restock"]),
    lines=lines,
    customer=st.sampled_from(["", "x"]),
)


def order(**quantities):
    return InventoryOrder(
        order_id="o", lines=[OrderLine(item=i, quantity=q) for i, q in quantities.items()]
    )


@given(lines, st.randoms(use_true_random=False))
def test_an_order_is_the_same_however_its_lines_are_split_or_ordered(some, rng):
    singles = [OrderLine(item=each.item, quantity=1) for each in some for _ in range(each.quantity)]
    rng.shuffle(singles)
    whole = read(InventoryOrder(order_id="o", lines=some))
    assert read(InventoryOrder(order_id="o", lines=singles)) == whole
    assert sum(whole.quantities.values()) == len(singles)
    assert list(whole.quantities) == sorted(whole.quantities)


@given(orders, orders)
def test_content_is_equal_only_where_kind_customer_and_quantities_are(one, other):
    def asked(order):
        return order.kind, order.customer, read(order).quantities

    assert (read(one).content == read(other).content) == (asked(one) == asked(other))


@given(orders)
def test_what_the_stock_carried_is_announced_item_by_item(order):
    asked = read(order)
    versions = {item: n for n, item in enumerate(asked.quantities, start=7)}
    settlement = settle(asked, asked.quantities, versions, NOW_MS)
    status = {"order": "deducted", "restock": "restocked"}[order.kind]
    assert settlement.verdict.verdict == status
    assert {u.item: u.quantity for u in settlement.updates} == asked.quantities
    assert {u.item: u.version for u in settlement.updates} == versions
    assert {u.status for u in settlement.updates} == {status}


@pytest.mark.parametrize(("in_stock", "said"), [(3, "3 in stock"), (None, "unknown item")])
def test_a_rejection_names_item_wanted_and_in_stock(in_stock, said):
    settlement = fall_short(read(order(bolt=5)), Shortage("bolt", in_stock), NOW_MS)
    assert settlement.verdict.verdict == "rejected"
    assert settlement.verdict.reason == f"bolt: 5 wanted, {said}"
    assert settlement.updates == ()


def test_a_new_order_is_for_the_stock_to_decide():
    assert judge(read(order(bolt=QUANTITY_MAX)), None, NOW_MS) is None


def test_lines_that_add_up_to_more_than_an_event_may_carry_are_rejected():
    line = OrderLine(item="bolt", quantity=QUANTITY_MAX)
    asked = read(InventoryOrder(order_id="o", lines=[line, line]))
    verdict = judge(asked, None, NOW_MS).verdict
    assert verdict.verdict == "rejected"
    assert verdict.reason == "bolt: 200000000 in all, at most 100000000"


@given(orders, orders, st.integers(0, 10_000))
def test_an_id_used_before_gets_the_first_verdict_or_a_refusal(first, second, later_ms):
    asked = read(first)
    before = settle(asked, asked.quantities, dict.fromkeys(asked.quantities, 1), NOW_MS)
    again = judge(read(second), before, later_ms)
    assert again.updates == ()
    if read(second).content == asked.content:
        assert (again.content, again.verdict) == (before.content, before.verdict)
    else:
        assert again.verdict.verdict == "rejected"
        assert "another order" in again.verdict.reason


@given(orders, orders, st.integers(0, 3), st.integers(0, 3))
def test_an_event_id_is_that_of_one_content_and_position(one, other, m, n):
    ids = [event_id("o", read(each).content, k) for each, k in ((one, m), (other, n))]
    assert (ids[0] == ids[1]) == (read(one).content == read(other).content and m == n)
