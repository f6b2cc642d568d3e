import asyncio
import json
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtests.client.connection import Place
from loadtests.client.plan import FAILED, LATE, RIGHT, Known, Plan, Tenant
from loadtests.client.sending import Sender, lates

KNOWN = tuple(Known(0, name, f"sha256:{name}", ("l",), (0, 1), ((1.0,), (2.0,))) for name in ("a", "b"))
PLAN = Plan(
    place=Place("127.0.0.1", 1),
    tenants=(Tenant("default", "ck"),),
    texts=("one", "two"),
    known=KNOWN,
    requests=((0.0, 0, (0,)), (0.02, 1, (1, 0)), (0.04, 0, (1,))),
    seconds=1.0,
    timeout_ms=2000,
    tolerance=1e-4,
    written="",
)


def answer_of(asked):
    name, digest = asked["adapters"][0].split("@")
    scores = [1.0 + (text == "two") for text in asked["inputs"]]
    return {
        "outputs": [[{"label": "l", "score": score}] for score in scores],
        "target": {"adapters": [{"name": name, "digest": digest}]},
        "residency": {name: "device"},
        "usage": {"prompt_tokens": 3 * len(scores)},
        "timing_ms": {"queue": 1.0, "load": 0.0, "forward": 2.0},
    }


def sent(plan, handler, clock=None):
    """The sender after it has sent a plan to a server with this handler."""

    async def run():
        app = web.Application()
        app.router.add_post("/v1/predict", handler)
        server = TestServer(app)
        await server.start_server()
        sender = Sender(replace(plan, place=Place("127.0.0.1", server.port)), *([] if clock is None else [clock]))
        try:
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(sender.send(loop.time() if clock is None else clock()), 60)
        finally:
            await server.close()
        return sender

    return asyncio.run(run())


async def honest(request):
    assert request.headers["Authorization"] == "Bearer ck"
    return web.json_response(answer_of(await request.json()))


def test_every_request_is_a_sample_with_what_the_answer_told():
    samples = sorted(sent(PLAN, honest).samples, key=lambda sample: sample.intended)
    assert [sample.verdict for sample in samples] == [RIGHT] * 3
    assert [sample.adapter for sample in samples] == ["a", "b", "a"]
    assert [(sample.rows, sample.tokens) for sample in samples] == [(1, 3), (2, 6), (1, 3)]
    assert [sample.intended for sample in samples] == [0.0, 0.02, 0.04]
    assert all(sample.intended <= sample.sent <= sample.done for sample in samples)
    assert samples[0].tiers == ("device",)


def test_every_request_leaves_when_it_is_due():
    """A clock that only a sleeper moves, and nobody to answer."""
    now, left = 100.0, []

    async def sleep(seconds):
        nonlocal now
        until = now + seconds
        await asyncio.sleep(0)  # whoever was just sent leaves before time moves on
        now = max(now, until)

    class Leaving(Sender):
        async def _ask(self, number, texts, due):
            left.append((now - 100.0, due))

    due = (0.5, 1.0, 4.0, 4.0, 9.5)
    plan = replace(PLAN, requests=tuple((at, 0, (0,)) for at in due))
    asyncio.run(Leaving(plan, lambda: now, sleep).send(100.0))
    assert left == [(at, at) for at in due]


def test_every_request_leaves_while_no_answer_has_come():
    left, gate = [], asyncio.Event()

    async def waiting(request):
        left.append(await request.json())
        if len(left) == len(PLAN.requests):
            gate.set()
        await gate.wait()  # nobody is answered before everybody has left
        return web.json_response(answer_of(left[0]))

    assert len(sent(PLAN, waiting).samples) == 3


def test_waits_count_from_when_a_request_was_due():
    """A clock that runs ten seconds ahead: all that was due meanwhile leaves at once, and late."""

    class Clock:
        now = 1000.0

        def __call__(self):
            self.now += 5.0
            return self.now

    sender = sent(PLAN, honest, Clock())
    assert all(sample.sent - sample.intended >= 5.0 for sample in sender.samples)
    assert all(sample.seconds >= sample.done - sample.sent for sample in sender.samples)
    assert sender.lag().sent_p99 >= 5000.0


def test_a_closed_loop_keeps_so_many_under_way_and_goes_round():
    under_way, most = 0, 0

    async def counting(request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        asked = await request.json()
        await asyncio.sleep(0.01)
        under_way -= 1
        return web.json_response(answer_of(asked))

    sender = sent(replace(PLAN, closed=4, seconds=0.3), counting)
    assert most == 4
    assert len(sender.samples) > len(PLAN.requests)
    assert {sample.adapter for sample in sender.samples} == {"a", "b"}
    assert all(sample.sent - sample.intended < 0.1 for sample in sender.samples)


def test_a_refused_closed_loop_backs_off():
    async def refusing(_):
        return web.json_response({"code": "busy"}, status=503, headers={"Retry-After": "1"})

    assert len(sent(replace(PLAN, closed=1, seconds=0.3), refusing).samples) <= 7


def test_no_service_is_a_failure_of_each_request():
    async def run():
        sender = Sender(PLAN)
        await sender.send(asyncio.get_running_loop().time())
        return sender.samples

    samples = asyncio.run(run())
    assert {(sample.verdict, sample.status) for sample in samples} == {(FAILED, 0)}
    assert "ConnectionRefusedError" in samples[0].detail


def test_what_is_not_answered_in_time_is_late(monkeypatch):
    monkeypatch.setattr("loadtests.client.sending.GRACE_S", 0.05)

    async def silent(_):
        await asyncio.sleep(5)

    samples = sent(replace(PLAN, requests=PLAN.requests[:1], timeout_ms=50), silent).samples
    assert [(sample.verdict, sample.detail) for sample in samples] == [(LATE, "no answer in time")]


def test_the_loops_own_delays_are_measured():
    async def blocking(request):
        asked = await request.json()
        for _ in range(2_000_000):  # the server shares the loop here: while it computes, nobody reads
            pass
        return web.json_response(answer_of(asked))

    lag = sent(PLAN, blocking).lag()
    assert lag.loop_max >= lag.loop_p99 > 1.0
    assert lag.connections > 0
    assert lag.again == 0


def test_a_stall_is_booked_with_every_tick_that_it_lasts():
    assert lates(-0.1) == [0.0]
    assert lates(0.004) == [0.004]
    assert lates(0.035) == pytest.approx([0.035, 0.025, 0.015, 0.005])


def test_a_loop_that_stood_still_for_a_part_of_the_time_was_late_for_that_part():
    """A clock that jumps by half a second, once, and ends the test after some ticks."""

    class Enough(Exception):
        pass

    times = [100 + n / 200 for n in range(60)]
    times += [times[-1] + 0.5 + n / 200 for n in range(60)]

    def clock():
        if not times:
            raise Enough
        return times.pop(0)

    sender = Sender(PLAN, clock)
    with pytest.raises(Enough):
        asyncio.run(sender._tick())
    assert sum(late > 0.1 for late in sender.ticks) == pytest.approx(40, abs=2)


def test_texts_travel_as_they_are():
    got = []

    async def reading(request):
        got.append(json.loads(await request.read()))
        return web.json_response(answer_of(got[-1]))

    texts = ('say "ä" \\ \n', "two")
    sent(replace(PLAN, texts=texts, requests=((0.0, 0, (0, 1)),)), reading)
    assert got[0]["inputs"] == list(texts)
    assert got[0]["timeout_ms"] == 2000
    assert got[0]["parameters"] == {"function_to_apply": "none", "top_k": None}


@pytest.mark.parametrize("closed", [0, 2])
def test_a_bug_in_sending_is_no_sample(closed, monkeypatch):
    def broken(*_):
        raise RuntimeError("bug")

    monkeypatch.setattr("loadtests.client.sending.judge", broken)
    with pytest.raises((RuntimeError, ExceptionGroup)):
        sent(replace(PLAN, closed=closed, seconds=0.1), honest)
