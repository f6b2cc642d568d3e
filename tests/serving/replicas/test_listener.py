"""The engine's port: nobody gets in without the secret, and whoever leaves waits for nothing."""

import asyncio

import pytest

from serving.dispatch.frames import MOST_UNKNOWN, Kind
from serving.dispatch.freight import read_replies, write_tickets
from serving.replicas import listener as module
from serving.replicas.listener import Listener
from serving.request import Refusal
from tests.serving.dispatch.wired import Engine, listening, message
from tests.serving.test_affinity import ticket


async def said(address, *messages):
    """The two ends of a connection on which this was said."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for kind, data in messages:
        writer.write(message(kind, data))
    return reader, writer


async def met(address, *messages):
    """The same, as a gateway that is welcome."""
    reader, writer = await said(address, (Kind.HELLO, address.password.encode()), *messages)
    assert await heard(reader) == (Kind.WELCOME, address.countersign.encode())
    return reader, writer


async def heard(reader):
    head = await asyncio.wait_for(reader.readexactly(5), 20)
    return Kind(head[4]), await reader.readexactly(int.from_bytes(head[:4], "little"))


def load(*ids):
    return Kind.TICKETS, write_tickets([ticket("x", ident=ident) for ident in ids])


@pytest.mark.parametrize(
    "messages",
    [
        [(Kind.HELLO, b"wrong")],
        [(Kind.HELLO, b"")],
        [load("a")],
        [(Kind.CANCEL, b'["a"]')],
        [(Kind.HELLO, b"x" * (MOST_UNKNOWN + 1))],
    ],
)
def test_a_stranger_is_cut_off_before_anything_is_read(messages, chorus_log):
    async def main():
        engine = Engine()
        async with listening(engine) as address:
            reader, writer = await said(address, *messages)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await heard(reader)
            writer.close()
        assert not engine.taken
        assert not engine.cancelled

    asyncio.run(main())
    assert "a connection was cut off" in chorus_log.text


def test_every_engine_has_a_secret_of_its_own_and_tells_it_to_no_log():
    async def main():
        async with listening(Engine()) as one, listening(Engine()) as two:
            said = [one.password, one.countersign, two.password, two.countersign]
            assert len(set(said)) == 4
            assert {len(word) for word in said} == {64}
            assert not any(word in repr((one, two)) for word in said)

    asyncio.run(main())


@pytest.mark.parametrize("words", [b"", message(Kind.HELLO, b"x" * 64)[:-1]])
def test_a_stranger_who_says_nothing_whole_is_cut_off_after_a_while(words, monkeypatch):
    monkeypatch.setattr(module, "HELLO_S", 0.01)

    async def main():
        async with listening(Engine()) as address:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(words)
            assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()

    asyncio.run(main())


def test_of_many_strangers_the_first_are_cut_off_and_no_gateway(monkeypatch):
    monkeypatch.setattr(module, "STRANGERS", 2)

    async def main():
        engine = Engine()
        async with listening(engine) as address:
            _, gateway = await met(address)
            strangers = [await said(address) for _ in range(4)]
            for reader, _ in strangers[:2]:
                assert await asyncio.wait_for(reader.read(), 20) == b""
            gateway.write(message(*load("a")))
            await engine.take(1)
            assert sum(guest.unknown for guest in engine.listener._guests) == 2
            for _, writer in (*strangers, (None, gateway)):
                writer.close()

    asyncio.run(main())


def test_a_gateway_may_be_silent_for_as_long_as_it_likes(monkeypatch):
    monkeypatch.setattr(module, "HELLO_S", 0.01)

    async def main():
        engine = Engine()
        async with listening(engine) as address:
            _, writer = await met(address)
            reader, stranger = await asyncio.open_connection(address.host, address.port)
            await asyncio.wait_for(reader.read(), 20)  # cut off, and it came later
            writer.write(message(*load("a")))
            await engine.take(1)
            for one in (writer, stranger):
                one.close()

    asyncio.run(main())


def test_it_listens_on_one_port_of_the_host_that_it_was_given():
    async def main(host):
        listener = Listener(Engine(), host)
        first, second = await asyncio.gather(listener.address(), listener.address())
        assert first == second
        assert [sock.getsockname()[:2] for sock in listener._server.sockets] == [(host, first.port)]
        _, writer = await met(first)
        writer.close()
        await listener.close()

    for host in ("127.0.0.1", "::1"):
        asyncio.run(main(host))


def test_replies_of_several_calls_leave_together():
    async def main():
        engine = Engine()
        async with listening(engine) as address:
            reader, writer = await met(address, load("a", "b"), load("c"))
            await engine.take(3)
            engine.answer("b")
            engine.answer("a", "c")
            kind, data = await heard(reader)
            assert kind is Kind.REPLIES
            assert [reply.ticket for reply in read_replies(data)] == ["b", "a", "c"]
            writer.close()

    asyncio.run(main())


def test_large_groups_leave_one_after_the_other(monkeypatch):
    monkeypatch.setattr(module, "LARGE", 100)

    async def main():
        engine = Engine()
        async with listening(engine) as address:
            reader, writer = await met(address, load("a", "b", "c", "d"))
            await engine.take(4)
            for ident, width in (("a", 2), ("b", 30), ("c", 30), ("d", 2)):
                engine.answer(ident, width=width)
            told = [[reply.ticket for reply in read_replies((await heard(reader))[1])] for _ in range(3)]
            assert told == [["a", "b"], ["c"], ["d"]]
            writer.close()

    asyncio.run(main())


def test_from_a_gateway_that_does_not_read_nothing_is_read(monkeypatch):
    monkeypatch.setattr(module, "MOST_UNREAD", 1 << 16)

    async def main():
        engine = Engine()
        async with listening(engine) as address:
            reader, writer = await met(address, load("a"))
            await engine.take(1)
            guest = engine.sinks[0].__self__
            engine.answer("a", width=1 << 23)  # more than what the system takes from it
            guest._flush()
            assert not guest._transport.is_reading()
            writer.write(message(*load("b")))
            _, data = await heard(reader)
            assert [reply.ticket for reply in read_replies(data)] == ["a"]
            await engine.take(2)
            assert guest._transport.is_reading()
            writer.close()

    asyncio.run(main())


def test_what_a_gateway_that_does_not_read_has_asked_for_waits_as_it_is_and_comes_when_it_reads(monkeypatch):
    monkeypatch.setattr(module, "MOST_UNREAD", 1 << 16)

    async def main():
        engine = Engine()
        async with listening(engine) as address:
            reader, writer = await met(address, load("a", "b", "c"))
            await engine.take(3)
            guest = engine.sinks[0].__self__
            engine.answer("a", width=1 << 23)
            guest._flush()
            unsent = guest.unsent
            engine.answer("b", width=1 << 20)
            engine.answer("c", width=1 << 20)
            for _ in range(5):
                await asyncio.sleep(0)
            assert guest.unsent <= unsent
            assert [reply.ticket for reply in guest._finished] == ["b", "c"]
            told = [[reply.ticket for reply in read_replies((await heard(reader))[1])] for _ in range(3)]
            assert told == [["a"], ["b"], ["c"]]
            assert guest._kept == 0
            writer.close()

    asyncio.run(main())


def test_whoever_lets_too_much_wait_is_cut_off_and_its_rows_end(monkeypatch, chorus_log):
    monkeypatch.setattr(module, "MOST_UNREAD", 1 << 16)
    monkeypatch.setattr(module, "MOST_KEPT", 1 << 20)

    async def main():
        engine = Engine()
        async with listening(engine) as address:
            _, writer = await met(address, load("a", "b", "c"))
            await engine.take(3)
            engine.answer("a", width=1 << 23)
            engine.answer("b", width=1 << 20)
            await engine.until(lambda: engine.cancelled)
            assert max(engine.cancelled) == "c"
            writer.close()

    asyncio.run(main())
    assert "does not read" in chorus_log.text


def test_tickets_that_can_not_be_taken_are_refused_and_nobody_elses_rows_suffer(chorus_log):
    class Broken(Engine):
        def submit(self, tickets, sink):
            super().submit(tickets, sink)
            if "bad" in self.taken:
                raise RuntimeError("a bug")

    async def main():
        engine = Broken()
        async with listening(engine) as address:
            reader, writer = await met(address, load("innocent"), load("bad"))
            (refusal,) = read_replies((await heard(reader))[1])
            assert (refusal.ticket, refusal.code) == ("bad", "engine_failed")
            assert engine.cancelled == ["bad"]
            engine.answer("innocent", sink=0)
            assert [reply.ticket for reply in read_replies((await heard(reader))[1])] == ["innocent"]
            writer.close()

    asyncio.run(main())
    assert "tickets could not be taken" in chorus_log.text


def test_whoever_leaves_waits_for_nothing():
    async def main():
        engine = Engine()
        async with listening(engine) as address:
            reader, writer = await met(address, load("a", "b"))
            await engine.take(2)
            engine.answer("a")
            await heard(reader)
            writer.close()
            await engine.until(lambda: engine.cancelled)
            assert engine.cancelled == ["b"]
            guest = engine.sinks[0].__self__
            engine.answer("b")  # to nobody
            while guest._finished:  # noqa: ASYNC110 - it is dropped
                await asyncio.sleep(0)

    asyncio.run(main())


def test_goodbye_comes_after_all_that_is_finished_and_what_still_comes_is_refused():
    class Leaving(Engine):
        def submit(self, tickets, sink):
            super().submit(tickets, sink)
            if "late" in self.taken:
                sink(tuple(Refusal(ticket.id, "not_ready", "it leaves", "e1") for ticket in tickets))

    async def main():
        engine = Leaving()
        listener = Listener(engine, "127.0.0.1")
        address = await listener.address()
        reader, writer = await met(address, load("a"))
        await engine.take(1)
        engine.answer("a")
        closing = asyncio.ensure_future(listener.close())
        assert [(await heard(reader))[0] for _ in range(2)] == [Kind.REPLIES, Kind.BYE]
        writer.write(message(*load("late")))
        _, data = await heard(reader)
        assert [reply.code for reply in read_replies(data)] == ["not_ready"]
        writer.close()
        await closing
        with pytest.raises(ConnectionRefusedError):
            await said(address)

    asyncio.run(main())


def test_whoever_does_not_hang_up_is_cut_off(monkeypatch):
    monkeypatch.setattr(module, "GOODBYE_S", 0.01)

    async def main():
        listener = Listener(Engine(), "127.0.0.1")
        address = await listener.address()
        reader, writer = await met(address)
        unknown, stranger = await said(address)
        await listener.close()
        assert (await heard(reader))[0] is Kind.BYE
        for end in (reader, unknown):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await heard(end)
        writer.close()
        stranger.close()

    asyncio.run(main())


def test_a_message_that_no_gateway_sends_ends_the_connection(chorus_log):
    async def main():
        engine = Engine()
        async with listening(engine) as address:
            reader, writer = await said(
                address, (Kind.HELLO, address.password.encode()), load("a"), (Kind.REPLIES, b"")
            )
            await heard(reader)
            await engine.until(lambda: engine.cancelled)
            assert engine.cancelled == ["a"]
            writer.close()

    asyncio.run(main())
    assert "a gateway sends no REPLIES" in chorus_log.records[-1].chorus_fields["why"]
