"""The gateway's end: every call gets its own replies, and the end of a connection means what it means."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
import uvloop

from serving.dispatch import wires as module
from serving.dispatch.frames import Kind
from serving.dispatch.freight import write_replies
from serving.dispatch.ports import ReplicaLeft, ReplicaLost
from serving.dispatch.wires import Wires
from serving.replicas.listener import Listener
from serving.request import Address, Holding, Refusal, Result
from tests.serving.dispatch.wired import Engine, die, listening, message, pretending
from tests.serving.dispatch.worlds import dispatcher
from tests.serving.test_affinity import ticket


def tickets(*ids):
    return [ticket("x", ident=ident) for ident in ids]


def at(address, replica="e1"):
    return {replica: Holding(replica, frozenset(), listens=address)}


@asynccontextmanager
async def connected():
    """An engine, and the wires of a gateway that knows of it."""
    engine, wires = Engine(), Wires()
    try:
        async with listening(engine) as address:
            wires.observe(at(address))
            yield engine, wires
    finally:
        await wires.close()


async def ids(stream):
    return [reply.ticket for reply in await anext(stream)]


async def all_of(stream):
    return [[reply.ticket for reply in group] async for group in stream]


def test_groups_arrive_as_they_finish_and_a_call_ends_with_its_last():
    async def main():
        async with connected() as (engine, wires):
            stream = wires.call("e1", tickets("t1", "t2", "t3"))
            first = asyncio.ensure_future(ids(stream))
            await engine.take(3)
            engine.answer("t2")
            assert await first == ["t2"]
            engine.answer("t1", "t3")
            assert await ids(stream) == ["t1", "t3"]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            assert engine.cancelled == []

    asyncio.run(main())


def test_calls_share_a_connection_and_each_gets_its_own():
    async def main():
        async with connected() as (engine, wires):
            calls = [asyncio.ensure_future(all_of(wires.call("e1", tickets(*names)))) for names in ("ab", "cd", "e")]
            await engine.take(5)
            engine.answer("a", "c", "d", "nobody's")
            await calls[1]
            engine.answer("b", "e")
            assert await asyncio.gather(*calls) == [[["a"], ["b"]], [["c", "d"]], [["e"]]]
            assert len(set(engine.sinks)) == 1

    asyncio.run(main())


def test_an_engine_that_dies_is_lost_after_what_it_answered():
    async def main():
        async with connected() as (engine, wires):
            streams = [wires.call("e1", tickets("a", "b")), wires.call("e1", tickets("c"))]
            ahead = [asyncio.ensure_future(ids(stream)) for stream in streams]
            await engine.take(3)
            engine.answer("a")
            assert await ahead[0] == ["a"]
            die(engine.listener)
            for waits in (anext(streams[0]), ahead[1]):
                with pytest.raises(ReplicaLost, match="e1"):
                    await waits

    asyncio.run(main())


def test_an_engine_that_says_goodbye_has_left():
    async def main():
        engine, wires = Engine(), Wires()
        listener = Listener(engine, "127.0.0.1")
        wires.observe(at(await listener.address()))
        stream = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
        await engine.take(1)
        await listener.close()
        with pytest.raises(ReplicaLeft, match="nothing more"):
            await stream
        with pytest.raises(ReplicaLeft, match="ConnectionRefused"):
            await all_of(wires.call("e1", tickets("b")))
        await wires.cancel("e1", ["a"])
        assert engine.taken == ["a"]

    asyncio.run(main())


def test_what_was_finished_before_the_goodbye_arrives():
    async def main():
        engine, wires = Engine(), Wires()
        listener = Listener(engine, "127.0.0.1")
        wires.observe(at(await listener.address()))
        stream = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
        await engine.take(1)
        engine.answer("a")
        await listener.close()
        assert await stream == [["a"]]

    asyncio.run(main())


@pytest.mark.parametrize("known", [False, True])
def test_an_engine_that_does_not_let_us_in_was_never_reached(known):
    async def main():
        async with connected() as (engine, wires):
            right = wires._addresses["e1"]
            wires.observe(at(replace(right, password="wrong") if known else None))
            with pytest.raises(ReplicaLeft, match="e1"):
                await all_of(wires.call("e1", tickets("a")))
            assert engine.taken == []
            wires.observe(at(right))
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            await engine.take(1)
            engine.answer("a")
            assert await call == [["a"]]

    asyncio.run(main())


def test_one_that_answers_nobody_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_S", 0.01)

    async def main():
        async with connected() as (_, wires), pretending(lambda *_: asyncio.sleep(0)) as port:
            wires.observe(at(replace(wires._addresses["e1"], port=port)))
            with pytest.raises(ReplicaLeft, match="TimeoutError"):
                await all_of(wires.call("e1", tickets("a")))

    asyncio.run(main())


@pytest.mark.parametrize("ours", [True, False])
def test_a_connection_that_breaks_is_no_death_and_the_next_call_has_a_new_one(ours):
    async def main():
        async with connected() as (engine, wires):
            calls = [asyncio.ensure_future(all_of(wires.call("e1", tickets(name)))) for name in "ab"]
            await engine.take(2)
            (wires._wires["e1"] if ours else engine.sinks[0].__self__).cut()
            for call in calls:
                with pytest.raises(ReplicaLeft, match="the engine lives"):
                    await call
            await engine.until(lambda: len(engine.cancelled) == 2)
            again = asyncio.ensure_future(all_of(wires.call("e1", tickets("c"))))
            await engine.take(3)
            engine.answer("c")
            assert await again == [["c"]]
            assert len(engine.listener._guests) == 1
            assert not wires._asking

    asyncio.run(main())


def welcoming_once(then, before):
    """An engine that says welcome, hears the first message, and after `before` hangs up; who comes later meets `then`."""
    met = []

    async def behave(reader, writer):
        met.append(writer)
        if len(met) > 1:
            await then(reader, writer)
            return
        await reader.readexactly(5 + 1)
        writer.write(message(Kind.WELCOME, b"c"))
        await reader.readexactly(5)
        before()
        writer.close()

    return behave


async def silent(reader, _writer):
    await reader.read()


async def hangs_up(_reader, writer):
    writer.close()


@pytest.mark.parametrize(
    ("then", "means", "why"),
    [
        (silent, ReplicaLeft, "can not be reached: TimeoutError"),  # parted from us, or too busy to say
        (hangs_up, ReplicaLost, "the engine is gone"),  # another one has its port
    ],
)
def test_what_became_of_an_engine_is_asked_at_its_port(then, means, why, monkeypatch):
    def of_little_patience():
        if then is silent:
            monkeypatch.setattr(module, "CONNECT_S", 0.01)

    async def main():
        wires = Wires()
        async with pretending(welcoming_once(then, of_little_patience)) as port:
            wires.observe(at(Address("127.0.0.1", port, "p", "c")))
            with pytest.raises(means, match=why):
                await all_of(wires.call("e1", tickets("a")))
            await wires.close()

    asyncio.run(main())


def test_whoever_waits_while_an_engine_is_asked_is_told_when_the_gateway_hangs_up():
    async def main():
        wires = Wires()
        async with pretending(welcoming_once(silent, lambda: None)) as port:
            wires.observe(at(Address("127.0.0.1", port, "p", "c")))
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            while not wires._asking:  # noqa: ASYNC110 - the connection has ended, and the engine is asked
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            await wires.close()
            with pytest.raises(ReplicaLeft, match="nobody found out"):
                await asyncio.wait_for(call, 20)

    asyncio.run(main())


def test_rows_that_never_left_are_no_part_of_a_loss():
    async def welcome_and_go(reader, writer):
        await reader.readexactly(5 + 1)
        writer.write(message(Kind.WELCOME, b"c"))
        writer.close()

    async def main():
        wires = Wires()
        async with pretending(welcome_and_go) as port:
            wires.observe(at(Address("127.0.0.1", port, "p", "c")))
            for _ in range(20):
                with pytest.raises(ReplicaLeft):
                    await all_of(wires.call("e1", tickets("a")))
            await wires.close()

    asyncio.run(main())


def test_a_call_that_is_given_up_cancels_what_is_left_and_no_other_calls_rows():
    async def main():
        async with connected() as (engine, wires):
            other = asyncio.ensure_future(all_of(wires.call("e1", tickets("x"))))
            stream = wires.call("e1", tickets("a", "b"))
            first = asyncio.ensure_future(ids(stream))
            await engine.take(3)
            engine.answer("a", sink=0)
            await first
            await stream.aclose()
            await engine.until(lambda: engine.cancelled)
            assert engine.cancelled == ["b"]
            engine.answer("b", "x")
            assert await other == [["x"]]

    asyncio.run(main())


def test_a_cancelled_call_is_cancelled_in_the_engine():
    async def main():
        async with connected() as (engine, wires):
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            await engine.take(1)
            call.cancel()
            await engine.until(lambda: engine.cancelled)
            assert engine.cancelled == ["a"]
            await wires.cancel("e1", ["b", "c"])
            await engine.until(lambda: len(engine.cancelled) == 3)
            assert engine.cancelled == ["a", "b", "c"]

    asyncio.run(main())


def test_an_engine_that_speaks_nonsense_is_left_alone(chorus_log):
    async def main():
        async with connected() as (engine, wires):
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            await engine.take(1)
            engine.sinks[0].__self__.send(Kind.HELLO)
            with pytest.raises(ReplicaLeft, match="understood"):
                await call

    asyncio.run(main())
    assert "an engine can not be understood" in chorus_log.text


def test_a_new_word_of_who_lives_ends_nothing_that_is_under_way():
    async def main():
        async with connected() as (engine, wires):
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            await engine.take(1)
            wires.observe({})
            engine.answer("a")
            assert await call == [["a"]]

    asyncio.run(main())


def test_nobody_is_taken_for_an_engine_who_does_not_know_the_countersign(chorus_log):
    heard = []

    async def impostor(reader, writer):
        heard.append(await reader.readexactly(5 + 1))
        writer.write(message(Kind.WELCOME, b"p"))
        heard.append(await reader.read())
        writer.close()

    async def main():
        wires = Wires()
        async with pretending(impostor) as port:
            wires.observe(at(Address("127.0.0.1", port, "p", "countersign")))
            with pytest.raises(ReplicaLeft, match="e1"):
                await all_of(wires.call("e1", tickets("a")))
            await wires.close()

    asyncio.run(main())
    assert heard == [message(Kind.HELLO, b"p"), b""]
    assert "countersign" in chorus_log.records[-1].chorus_fields["why"]


@pytest.mark.parametrize("whole", [False, True])
def test_an_engine_that_dies_in_the_middle_of_a_message_is_lost_with_what_was_not_whole(whole):
    met = []

    async def dying(reader, writer):
        met.append(writer)
        if len(met) > 1:  # it is gone
            writer.close()
            return
        await reader.readexactly(5 + 1)
        writer.write(message(Kind.WELCOME, b"c"))
        await reader.readexactly(5)
        told = message(Kind.REPLIES, write_replies([Refusal("a", "x", "y", "e1")]))
        writer.write(told if whole else told[:-1])
        await writer.drain()
        writer.close()

    async def main():
        wires, came = Wires(), []
        async with pretending(dying) as port:
            wires.observe(at(Address("127.0.0.1", port, "p", "c")))
            with pytest.raises(ReplicaLost):
                async for group in wires.call("e1", tickets("a", "b")):
                    came += [reply.ticket for reply in group]
            await wires.close()
        assert came == (["a"] if whole else [])

    asyncio.run(main())


def test_an_engine_that_does_not_read_gets_no_more(monkeypatch):
    monkeypatch.setattr(module, "MOST_UNSENT", 1 << 16)

    async def main():
        async with connected() as (engine, wires):
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            await engine.take(1)
            guest = engine.sinks[0].__self__
            guest._transport.pause_reading()
            large = [
                replace(t, input_ids=np.ones(1 << 22, np.int32)) for t in tickets("b")
            ]  # more than the system takes
            other = asyncio.ensure_future(all_of(wires.call("e1", large)))
            wire = wires._wires["e1"]
            await asyncio.sleep(0)
            assert wire.unsent > 1 << 16
            with pytest.raises(ReplicaLeft, match="does not read"):
                await all_of(wires.call("e1", tickets("c")))
            guest._transport.resume_reading()
            await engine.take(2)
            engine.answer("a", "b")
            assert await asyncio.gather(call, other) == [[["a"]], [["b"]]]
            assert engine.taken == ["a", "b"]

    asyncio.run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_two_gateways_that_come_at_once_get_what_each_asked_for(run):
    async def main():
        engine, gateways = Engine(), [Wires(), Wires()]
        async with listening(engine) as address:
            for wires in gateways:
                wires.observe(at(address))
            calls = [
                asyncio.ensure_future(all_of(wires.call("e1", tickets(f"{name}{i}"))))
                for i, wires in enumerate(gateways)
                for name in "ab"
            ]
            await engine.take(4)
            assert len(set(engine.sinks)) == 2
            for sink in set(engine.sinks):
                ours = [t for t, s in zip(engine.taken, engine.sinks, strict=True) if s == sink]
                engine.answer(*ours, sink=engine.sinks.index(sink))
            assert await asyncio.gather(*calls) == [[["a0"]], [["b0"]], [["a1"]], [["b1"]]]
            for wires in gateways:
                await wires.close()

    run(main())


def test_another_engine_at_the_same_address_is_not_asked_in_the_name_of_the_first():
    async def main():
        first, second, wires = Engine(), Engine(), Wires()
        listener = Listener(first, "127.0.0.1")
        old = await listener.address()
        await listener.close()
        async with listening(second) as new:
            wires.observe(at(replace(old, port=new.port)) | at(new, "e2"))
            with pytest.raises(ReplicaLeft):
                await all_of(wires.call("e1", tickets("a")))
            call = asyncio.ensure_future(all_of(wires.call("e2", tickets("a"))))
            await second.take(1)
            second.answer("a")
            assert await call == [["a"]]
            await wires.close()
        assert second.taken == ["a"]

    asyncio.run(main())


def test_connections_that_are_over_are_forgotten_with_their_engines():
    async def main():
        async with connected() as (engine, wires):
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            await engine.take(1)
            die(engine.listener)
            with pytest.raises(ReplicaLost):
                await call
            wires.observe({})
            assert not wires._wires

    asyncio.run(main())


def test_a_cancel_while_we_connect_says_nothing_against_the_engine():
    async def main():
        async with connected() as (engine, wires):
            call = asyncio.ensure_future(all_of(wires.call("e1", tickets("a"))))
            await asyncio.sleep(0)
            await wires.cancel("e1", ["a"])
            await engine.take(1)
            engine.answer("a")
            assert await call == [["a"]]

    asyncio.run(main())


@asynccontextmanager
async def dispatched():
    """Two engines behind ports, and a gateway's dispatcher over them."""
    engines, wires = {"e1": Engine(), "e2": Engine()}, Wires()
    listeners = {name: Listener(engine, "127.0.0.1") for name, engine in engines.items()}
    holdings = {name: Holding(name, frozenset(), listens=await one.address()) for name, one in listeners.items()}
    wires.observe(holdings)
    made = dispatcher(wires)
    made.observe(holdings)
    try:
        yield engines, listeners, made
    finally:
        await made.close()
        await wires.close()
        for listener in listeners.values():
            await listener.close()


async def asked(engines):
    """The engine that got the row, and the other one."""
    waiting = [asyncio.ensure_future(engine.take(1)) for engine in engines.values()]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return sorted(engines, key=lambda name: not engines[name].taken)


@pytest.mark.parametrize(("how", "suspects"), [("leaves", 0), ("parts", 0), ("dies", 1)])
def test_a_row_travels_on_and_only_a_death_counts_against_it(how, suspects):
    async def main():
        async with dispatched() as (engines, listeners, made):
            answer = asyncio.ensure_future(made.submit(tickets("t"), 20))
            first, second = await asked(engines)
            if how == "leaves":
                await listeners[first].close()
            elif how == "parts":
                engines[first].sinks[0].__self__.cut()
            else:
                die(listeners[first])
            await engines[second].take(1)
            assert made._suspects.any_suspected == bool(suspects)
            assert len(made._lost) == suspects
            engines[second].answer("t")
            assert [type(reply) for reply in await answer] == [Result]
            assert made.replicas == (second,)
            made.check()

    asyncio.run(main())


def test_an_engine_that_hangs_costs_its_rows_their_deadline_and_is_told():
    async def main():
        async with dispatched() as (engines, _, made):
            (reply,) = await made.submit(tickets("t"), 0.2)
            assert (type(reply), reply.code) == (Refusal, "deadline_exceeded")
            first, second = await asked(engines)
            await engines[first].until(lambda: engines[first].cancelled)
            assert engines[first].cancelled == ["t"]
            assert sorted(made.replicas) == ["e1", "e2"]
            assert not engines[second].taken

    asyncio.run(main())
