import pytest

from serving.errors import Congested, DeadlineExceeded, NotFound, Overloaded, Unprocessable
from serving.registry.records import Quota
from serving.tenancy.admission import Size
from serving.tenancy.forecast import Work
from tests.serving.tenancy.doors import Surroundings, refusal, result

SIZE = Size(rows=2, characters=40)


@pytest.fixture
def around():
    return Surroundings(quotas={"a": Quota(cost_per_s=100.0, concurrency=1)})


@pytest.fixture
def door(around):
    return around.door()


def left(door, name="cost"):
    door.check()
    return next(item.remaining for item in door.standings("a") if item.name == name)


def test_the_least_cost_is_taken_at_the_door_and_the_exact_one_inside(door):
    with door.enter("a", SIZE, 1.0) as grant:
        assert (left(door), left(door, "concurrency")) == (96, 0)
        grant.pay(Work(60, 2), 1.0)
        assert left(door) == 40
        grant.settle([30, 30], [result(), result()])
    assert (left(door), left(door, "concurrency")) == (40, 1)


def test_what_ends_before_it_is_sent_costs_nothing(door):
    with pytest.raises(NotFound), door.enter("a", SIZE, 1.0):
        raise NotFound("no such adapter")
    assert (left(door), left(door, "concurrency")) == (100, 1)


def test_a_cost_that_turns_out_too_high_gives_all_back(door):
    with door.enter("a", SIZE, 1.0) as grant:
        grant.pay(Work(60, 2), 1.0)
        grant.settle([60], [result()])
    with pytest.raises(Overloaded) as caught, door.enter("a", SIZE, 1.0) as grant:
        grant.pay(Work(60, 2), 1.0)
    assert caught.value.retry_after == pytest.approx(0.2)
    assert (left(door), left(door, "concurrency")) == (40, 1)


@pytest.mark.parametrize(("code", "given_back"), [("overloaded", 25), ("not_ready", 25), ("engine_failed", 0)])
def test_rows_that_no_engine_took_are_given_back(door, code, given_back):
    with pytest.raises(Overloaded), door.enter("a", SIZE, 1.0) as grant:
        grant.pay(Work(60, 2), 1.0)
        grant.settle([35, 25], [result(), refusal(code)])
        raise Overloaded("because")  # as the answer to such replies does
    assert left(door) == 40 + given_back


def test_a_client_that_leaves_an_idle_service_has_used_what_it_asked_for(around, door):
    with pytest.raises(RuntimeError), door.enter("a", SIZE, 1.0) as grant:
        grant.pay(Work(60, 2), 1.0)
        raise RuntimeError("the client hung up")
    assert (left(door), left(door, "concurrency")) == (40, 1)


def test_a_client_that_leaves_a_line_gets_back_what_was_not_due(around, door):
    around.says(rate=100, a=140)
    with pytest.raises(RuntimeError), door.enter("a", SIZE, 9.0) as grant:
        grant.pay(Work(60, 2), 9.0)  # due after 2 s: from 1.4 s on
        around.clock.now += 0.1  # 10 flow in
        raise RuntimeError("the client hung up")
    assert left(door) == 100


def waited(around, door, queue_s, load_s=0.0, times=1):
    for _ in range(times):
        with door.enter("a", SIZE, 99.0) as grant:
            grant.pay(Work(100, 1), 99.0)
            grant.settle([100], [result(queue_s=queue_s, forward_s=0.1, load_s=load_s)])
    outlook = door.expect("a", Work(100, 1), 1e9)
    return outlook.wait_s / outlook.line_s


def test_waits_are_learnt_from_replies_but_not_from_loads(around, door):
    around.says(rate=100, a=900)
    around.quotas["a"] = Quota()
    with door.enter("a", SIZE, 99.0):  # somebody always waits
        learnt = waited(around, door, 20.0, times=60)
        assert learnt == pytest.approx(2.0, rel=0.05)
        assert waited(around, door, 90.0, load_s=60.0, times=20) == pytest.approx(learnt)


def test_rows_that_came_too_late_teach_that_the_line_is_slow(around, door):
    around.says(rate=100, a=900)
    around.quotas["a"] = Quota()
    with door.enter("a", SIZE, 99.0):  # somebody always waits
        for _ in range(60):
            with pytest.raises(DeadlineExceeded), door.enter("a", SIZE, 99.0) as grant:
                grant.pay(Work(100, 1), 99.0)
                around.clock.now += 30
                grant.settle([50, 50], [result(forward_s=0.1), refusal("deadline_exceeded")])
                raise DeadlineExceeded("too late")
        outlook = door.expect("a", Work(100, 1), 1e9)
    assert outlook.wait_s > 2 * outlook.line_s


def test_replies_come_to_what_was_sent(door):
    with door.enter("a", SIZE, 1.0) as grant, pytest.raises(AssertionError):
        grant.settle([1], [result()])


def test_who_is_refused_inside_has_spent_no_request_either(around, door):
    around.quotas["a"] = Quota(requests_per_s=2.0)
    around.quotas["c"] = Quota(requests_per_s=2.0, cost_per_s=100.0)
    around.says(rate=100, a=900)
    for _ in range(5):
        with pytest.raises(Congested), door.enter("a", SIZE, 99.0) as grant:
            grant.pay(Work(10**6, 2), 0.5)
        with pytest.raises(Unprocessable), door.enter("c", SIZE, 99.0) as grant:
            grant.pay(Work(10**6, 2), 99.0)
    assert left(door, "requests") == 2


def test_who_is_let_in_has_spent_one_request(around, door):
    around.quotas["a"] = Quota(requests_per_s=2.0)
    with door.enter("a", SIZE, 9.0) as grant:
        grant.pay(Work(60, 2), 9.0)
        grant.settle([30, 30], [result(), result()])
    assert left(door, "requests") == 1
