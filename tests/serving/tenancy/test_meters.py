import pytest

from serving.errors import Overloaded, ServiceError, Unprocessable
from serving.registry.records import Quota
from serving.tenancy.meters import LONGEST_WAIT_S, Meter, Standing

LARGEST = 96.0  # cost of the longest row


def meter(gateways=1, now=0.0, **quota) -> Meter:
    made = Meter(LARGEST)
    made.follow(Quota(**quota), gateways, now)
    return made


def spend(of: Meter, times: int, cost=1.0, now=0.0) -> None:
    for _ in range(times):
        of.check_enter(cost, cost, now)
        of.enter()
        of.spend(cost, now, requests=1.0)
        of.leave()


def refusal(of: Meter, cost=1.0, likely=0.0, now=0.0) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        of.check_enter(cost, likely, now)
    return caught.value


def test_without_a_quota_nothing_is_refused_or_told():
    free = meter()
    spend(free, 10_000, cost=1e9)
    assert list(free.standings(0.0)) == []


def test_a_second_of_requests_may_come_at_once_and_then_one_by_one():
    held = meter(requests_per_s=4)
    spend(held, 4)
    error = refusal(held)
    assert isinstance(error, Overloaded)
    assert (error.status, error.code, error.retry_after) == (429, "rate_limited", 0.25)
    assert "requests_per_s is 4" in error.detail
    spend(held, 1, now=0.25)


def test_every_gateway_holds_its_part():
    parts = [meter(gateways=4, requests_per_s=8) for _ in range(4)]
    for part in parts:
        spend(part, 2)
        assert refusal(part).retry_after == 0.5


def test_a_slow_quota_lets_one_request_in_at_a_time():
    held = meter(gateways=2, requests_per_s=0.5)
    spend(held, 1)
    assert refusal(held).retry_after == 4.0


def test_when_a_gateway_leaves_the_others_take_over_its_part():
    held = meter(gateways=2, requests_per_s=8)
    spend(held, 4)
    held.follow(Quota(requests_per_s=8), 1, 0.0)
    spend(held, 4)
    assert refusal(held).retry_after == 0.125


def test_a_quota_that_changes_counts_from_the_next_request_on():
    held = meter(requests_per_s=2)
    spend(held, 2)
    held.follow(Quota(requests_per_s=10), 1, 0.0)
    spend(held, 8)
    held.follow(Quota(), 1, 0.0)
    spend(held, 100)
    held.follow(Quota(requests_per_s=1), 1, 0.0)
    spend(held, 1)
    refusal(held)


def test_cost_is_limited_by_itself():
    held = meter(cost_per_s=1000)
    spend(held, 1, cost=600)
    held.check_cost(400, 0.0)
    with pytest.raises(Overloaded) as caught:
        held.check_cost(500, 0.0)
    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", 0.1)
    assert "cost_per_s is 1000" in caught.value.detail


def test_what_could_never_be_paid_is_told_with_numbers_and_not_to_come_back():
    error = refusal(meter(cost_per_s=1000), cost=1001)
    assert isinstance(error, Unprocessable)
    assert (error.status, error.code, error.retry_after) == (422, "costs_too_much", None)
    for number in ("1001 units", "1000 units per second", "lets 1000"):
        assert number in error.detail


@pytest.mark.parametrize("gateways", [1, 5])
def test_what_may_be_sent_at_once_does_not_depend_on_the_number_of_gateways(gateways):
    held = meter(gateways=gateways, cost_per_s=1000)
    held.check_cost(1000, 0.0)
    with pytest.raises(Unprocessable):
        held.check_cost(1001, 0.0)
    held.spend(1000, 0.0)
    with pytest.raises(Overloaded) as caught:
        held.check_cost(1, 0.0)
    debt = 1000 - 1000 / gateways
    assert caught.value.retry_after == pytest.approx((debt + 1) / (1000 / gateways))


def test_the_longest_row_can_be_sent_under_the_smallest_quota():
    held = meter(gateways=3, cost_per_s=1)
    spend(held, 1, cost=LARGEST)
    with pytest.raises(Overloaded) as caught:
        held.check_cost(1, 0.0)
    assert caught.value.retry_after == pytest.approx((LARGEST - LARGEST / 3 + 1) * 3)


def test_a_request_that_will_hardly_be_paid_waits_outside_for_half_of_it():
    held = meter(cost_per_s=1000)
    spend(held, 1, cost=700)
    held.check_enter(10, 600, 0.0)
    assert refusal(held, cost=10, likely=800).retry_after == pytest.approx(0.1)


def test_a_quota_of_nothing_refuses_all():
    assert refusal(meter(requests_per_s=0)).retry_after == LONGEST_WAIT_S
    assert refusal(meter(cost_per_s=0)).code == "costs_too_much"
    assert refusal(meter(concurrency=0)).code == "too_many_concurrent"


def test_requests_at_once_are_counted_and_a_gateway_answers_one_at_least():
    held = meter(concurrency=2)
    held.enter()
    held.enter()
    error = refusal(held)
    assert (error.status, error.code) == (429, "too_many_concurrent")
    assert error.retry_after is not None
    held.leave()
    held.check_enter(1, 1, 0.0)
    assert [meter(gateways=g, concurrency=5).most_at_once for g in (1, 2, 5, 50)] == [5, 2, 1, 1]
    assert "on each of 2 gateways (5 together)" in refusal(_full(meter(gateways=2, concurrency=5))).detail


def _full(held: Meter) -> Meter:
    for _ in range(held.most_at_once or 0):
        held.enter()
    return held


def test_the_standings_are_those_of_all_gateways():
    held = meter(gateways=2, requests_per_s=10, cost_per_s=300, concurrency=6)
    spend(held, 1, cost=120)
    held.enter()
    assert list(held.standings(0.0)) == [
        Standing("requests", "requests", 10, 8, 1, 1),
        Standing("cost", "cost-units", 300, 60, 1, 1),
        Standing("concurrency", "concurrent-requests", 6, 4),
    ]
    assert [item.remaining for item in held.standings(10.0)] == [10, 300, 4]
    held.spend(1000, 10.0)
    assert next(item for item in held.standings(10.0) if item.name == "cost").remaining == 0
    held.check()
