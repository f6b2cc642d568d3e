import pytest

from serving.errors import Congested, DeadlineExceeded, Overloaded, Unprocessable
from serving.registry.records import Quota
from serving.tenancy.admission import METERS, SAFETY, Size
from serving.tenancy.forecast import Work
from tests.serving.tenancy.doors import LAYERS, Surroundings, result

ONE = Size(rows=1, characters=10)


@pytest.fixture
def around():
    return Surroundings()


@pytest.fixture
def door(around):
    return around.door()


def through(door, tenant="a", size=ONE, left_s=1.0, cost=10):
    with door.enter(tenant, size, left_s) as grant:
        grant.pay(Work(cost, size.rows), left_s)
        grant.settle([cost], [result(forward_s=0.01)])


def test_who_has_no_quota_and_finds_no_line_comes_in(door):
    for _ in range(1000):
        through(door, left_s=0.001, cost=1e6)
    assert door.standings("a") == ()
    door.check()


def test_tenants_that_come_no_more_are_forgotten_and_what_others_spent_is_not(around, door):
    around.quotas["spent"] = Quota(requests_per_s=1)
    through(door, "spent")
    held = door.enter("held", ONE, 1.0)
    for number in range(3 * METERS):
        through(door, f"tenant-{number}")
    assert {"spent", "held"} < set(door._meters) and len(door._meters) <= METERS + 2
    with pytest.raises(Overloaded):
        through(door, "spent")
    with held:
        pass
    around.clock.now += 60
    for number in range(3 * METERS):
        through(door, f"other-{number}")
    assert not {"spent", "held"} & set(door._meters)
    door.check()


def test_an_idle_service_refuses_nobody_however_slow_it_is(around, door):
    around.says(rate=0.001)
    through(door, left_s=0.001)


def test_a_line_longer_than_the_time_that_is_left_refuses_at_once(around, door):
    around.says(rate=100, a=900)
    expected = (900 + 5) / 100
    through(door, left_s=expected / SAFETY + 0.2, cost=10)
    with pytest.raises(Congested) as caught:
        through(door, left_s=expected)
    error = caught.value
    assert (error.status, error.code) == (503, "overloaded_now")
    assert error.retry_after == pytest.approx(expected / 2 * 1.5, rel=0.01)
    door.check()


def test_who_comes_back_is_spread(around, door):
    around.says(rate=100, a=900)
    waits = []
    for around.jitter in (0.0, 0.4, 0.99):
        with pytest.raises(Congested) as caught:
            through(door)
        waits.append(caught.value.retry_after)
    assert waits[0] < waits[1] < waits[2] < 2 * waits[0]
    around.says(rate=1e-3, a=900)
    with pytest.raises(Congested) as caught:
        through(door)
    assert caught.value.retry_after < 20  # however long the line


def test_anothers_long_line_refuses_nobody_else(around, door):
    around.says(rate=100, flood=1_000_000)
    through(door, "quiet", left_s=0.5)
    with pytest.raises(Congested):
        through(door, "flood", left_s=0.5)


def test_a_burst_is_refused_before_any_of_it_is_tokenized(around, door):
    """What was let in counts from the door on, by what its characters will cost."""
    around.says(rate=100, a=1)
    let_in = 0
    with pytest.raises(Congested):
        for let_in in range(1000):  # noqa: B007 - looked at below
            door.enter("a", Size(rows=1, characters=40), 1.0)
    assert 2 < let_in < 6  # 20 each, 100 per second


def test_the_exact_cost_is_asked_again(around, door):
    around.says(rate=100, a=10)
    with door.enter("a", ONE, 1.0) as grant, pytest.raises(Congested):
        grant.pay(Work(500, 1), 1.0)
    door.check()
    assert door.expect("a", Work(10, 1), 1.0).own == 20  # nothing of it was kept


def test_queues_without_room_refuse_requests_as_a_whole(around, door):
    around.says(rate=1e6, a=1, free=10)
    through(door, size=Size(9, 10))
    with pytest.raises(Congested, match="no room for 10 more rows"):
        through(door, size=Size(10, 10))
    with door.enter("a", ONE, 1.0) as grant, pytest.raises(Congested, match="no room for 50 more rows"):
        grant.pay(Work(10, 50), 1.0)


def test_characters_are_weighed_by_what_they_turned_out_to_cost(around, door):
    for _ in range(200):
        through(door, size=Size(1, 100), cost=1000)  # 10 per character, not 0.5
    around.says(rate=100, a=1)
    with pytest.raises(Congested):
        door.enter("a", Size(1, 10), 1.0)


def test_a_refusal_spends_nothing(around, door):
    around.quotas["a"] = Quota(requests_per_s=5, cost_per_s=1000, concurrency=3)
    around.says(rate=1.0, a=900)
    for _ in range(50):
        with pytest.raises(Congested):
            through(door)
    assert [item.remaining for item in door.standings("a")] == [5, 1000, 3]


def test_quotas_come_before_the_line_and_refuse_with_429(around, door):
    around.quotas["a"] = Quota(requests_per_s=1)
    through(door)
    around.says(rate=1.0, a=900)
    with pytest.raises(Overloaded) as caught:
        through(door)
    assert (caught.value.status, caught.value.code) == (429, "rate_limited")


def test_one_tenants_quota_is_no_others(around, door):
    around.quotas["a"] = Quota(requests_per_s=1)
    through(door, "a")
    for _ in range(100):
        through(door, "b")
    with pytest.raises(Overloaded):
        through(door, "a")


def test_requests_at_once_are_given_back_however_they_end(around, door):
    around.quotas["a"] = Quota(concurrency=1)
    for _ in range(3):
        with pytest.raises(KeyError), door.enter("a", ONE, 1.0):
            with pytest.raises(Overloaded) as caught:
                door.enter("a", ONE, 1.0)
            assert caught.value.code == "too_many_concurrent"
            raise KeyError
    through(door)


def test_what_has_no_time_left_is_dropped_at_the_door(door):
    with pytest.raises(DeadlineExceeded):
        door.enter("a", ONE, 0.0)
    door.check()


def test_a_request_that_its_quota_could_never_pay_is_no_429(around, door):
    around.quotas["a"] = Quota(cost_per_s=50)
    with pytest.raises(Unprocessable) as caught:
        door.enter("a", Size(rows=40, characters=0), 1.0)
    assert caught.value.code == "costs_too_much"
    with door.enter("a", ONE, 1.0) as grant, pytest.raises(Unprocessable):
        grant.pay(Work(60, 1), 1.0)
    assert door.standings("a")[0].remaining == 50


def test_the_clock_on_the_wall_does_not_matter(around, door):
    around.quotas["a"] = Quota(requests_per_s=1)
    through(door)
    around.clock.now -= 3600
    with pytest.raises(Overloaded) as caught:
        through(door)
    assert caught.value.retry_after == 1.0


@pytest.mark.parametrize("gateways", [1, 2, 4])
def test_gateways_together_let_through_what_the_quota_says(gateways):
    around = Surroundings(quotas={"a": Quota(requests_per_s=20)}, gateways=gateways)
    doors = [around.door() for _ in range(gateways)]
    came = 0
    for turn in range(10_000):  # ten seconds of a flood, spread evenly
        around.clock.now = 100.0 + turn / 1000
        try:
            through(doors[turn % gateways])
            came += 1
        except Overloaded:
            pass
    assert 20 * 10 <= came <= 20 * 11


def test_an_images_tokens_are_paid_for_before_it_is_decoded(around, door):
    around.quotas["a"] = Quota(cost_per_s=100)

    def left():
        return next(standing.remaining for standing in door.standings("a") if standing.name == "cost")

    before = left()
    with door.enter("a", Size(rows=1, characters=0, tokens=20), 1.0):
        assert before - left() == 20 * LAYERS
