import asyncio

import pytest

from loadtests.client.connection import Broken, Place, Pool, whole

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;ext=1\r\n yo\r\n0\r\n\r\n"


@pytest.mark.parametrize("raw", [PLAIN, CHUNKED])
def test_an_answer_is_whole_with_its_last_byte_and_not_before(raw):
    assert all(whole(bytearray(raw[:end])) is None for end in range(len(raw)))
    answer = whole(bytearray(raw))
    assert answer.status == 200
    assert answer.body == (b"hello" if raw is PLAIN else b"hello yo")


def test_headers_are_found_whatever_their_case():
    answer = whole(bytearray(b"HTTP/1.1 503 No\r\nRETRY-After: 2\r\nContent-Length: 0\r\n\r\n"))
    assert (answer.status, answer.body) == (503, b"")
    assert answer.has(b"retry-after")
    assert not answer.has(b"retry")


def test_what_is_no_http_is_told():
    with pytest.raises(ValueError, match="SSH-2"):
        whole(bytearray(b"SSH-2.0-x\r\n\r\n"))


def test_a_request_carries_key_length_and_prefix():
    raw = Place("h", 8, prefix="/x").request("POST", "/v1/predict", "ck_1", "ä".encode())
    assert raw.startswith(b"POST /x/v1/predict HTTP/1.1\r\nHost: h:8\r\n")
    assert b"Authorization: Bearer ck_1\r\nContent-Length: 2\r\n\r\n" in raw
    assert b"Authorization" not in Place("h", 8).request("GET", "/", "", b"")


def talking(answer, ask, most=100):
    """What `ask(pool, places)` returns while a server answers each request with what `answer(number, writer)` writes."""

    async def run():
        seen, writers = [], []

        async def serve(reader, writer):
            number = len(writers)
            writers.append(writer)
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    seen.append(number)
                    await answer(number, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                seen.append("gone")
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = Pool(Place("127.0.0.1", server.sockets[0].getsockname()[1]), most)
        try:
            return await asyncio.wait_for(ask(pool, seen), 30)
        finally:
            pool.close()
            server.close()
            for writer in writers:
                writer.close()

    return asyncio.run(run())


RAW = Place("h", 1).request("GET", "/", "", b"")


def test_a_connection_is_used_again_and_another_one_opened_while_it_is_busy():
    gate = asyncio.Event()

    async def answer(number, writer):
        if number == 1:
            await gate.wait()
        writer.write(PLAIN)

    async def ask(pool, seen):
        await pool.ask(RAW, 10)
        first = asyncio.create_task(pool.ask(RAW, 10))
        await asyncio.sleep(0)
        second = asyncio.create_task(pool.ask(RAW, 10))
        await first
        gate.set()
        await second
        return pool.opened, sorted(seen)

    assert talking(answer, ask) == (2, [0, 0, 1])


def test_a_connection_that_was_closed_while_idle_costs_no_request():
    async def answer(_number, writer):
        writer.write(PLAIN)
        await writer.drain()
        writer.close()  # without having said so

    async def ask(pool, _):
        return [(await pool.ask(RAW, 10)).status for _ in range(3)]

    assert talking(answer, ask) == [200, 200, 200]


def test_an_idle_connection_that_ends_without_a_byte_costs_a_second_sending_that_is_counted():
    async def answer(number, writer):
        if number == 0 and seen_once:
            writer.close()
        else:
            seen_once.append(number)
            writer.write(PLAIN)

    async def ask(pool, seen):
        await pool.ask(RAW, 10)
        return (await pool.ask(RAW, 10)).status, pool.again, pool.opened, [one for one in seen if one != "gone"]

    seen_once = []
    assert talking(answer, ask) == (200, 1, 2, [0, 0, 1])


def test_it_is_sent_again_a_single_time():
    async def answer(_number, writer):
        if answered:
            writer.close()
        else:
            answered.append(True)
            writer.write(PLAIN)

    async def ask(pool, seen):
        await pool.ask(RAW, 10)
        with pytest.raises(Broken, match="before an answer"):
            await pool.ask(RAW, 10)
        return pool.again, [one for one in seen if one != "gone"]

    answered = []
    assert talking(answer, ask) == (1, [0, 0, 1])


@pytest.mark.parametrize(("second", "says"), [(PLAIN[:30], "in the middle"), (b"SSH-2.0-x\r\n\r\n", "no HTTP")])
def test_half_an_answer_or_none_of_http_is_told_and_never_sent_again(second, says):
    async def answer(_number, writer):
        writer.write(second if answered else PLAIN)
        await writer.drain()
        if answered:
            writer.close()
        answered.append(True)

    async def ask(pool, seen):
        await pool.ask(RAW, 10)
        with pytest.raises(Broken, match=says):
            await pool.ask(RAW, 10)
        return pool.again, [one for one in seen if one != "gone"]

    answered = []
    assert talking(answer, ask) == (0, [0, 0])


def test_what_must_not_be_sent_twice_has_a_connection_of_its_own():
    async def answer(_number, writer):
        writer.write(PLAIN)

    async def ask(pool, seen):
        await pool.ask(RAW, 10)
        await pool.ask(RAW, 10, once=True)
        await pool.ask(RAW, 10)
        return pool.opened, [one for one in seen if one != "gone"]

    assert talking(answer, ask) == (2, [0, 1, 0])


def test_what_nobody_asked_for_is_no_answer_to_the_next_request():
    async def answer(number, writer):
        writer.write(PLAIN)
        if number == 0:
            await read.wait()
            writer.write(PLAIN.replace(b"200 OK", b"408 Request Timeout"))

    read = asyncio.Event()

    async def ask(pool, seen):
        await pool.ask(RAW, 10)
        read.set()
        while "gone" not in seen:  # noqa: ASYNC110 - `talking` waits for no longer than thirty seconds
            await asyncio.sleep(0)
        return (await pool.ask(RAW, 10)).status, pool.opened

    assert talking(answer, ask) == (200, 2)


def test_a_connection_that_says_that_it_closes_is_not_used_again():
    async def answer(_number, writer):
        writer.write(PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    async def ask(pool, _):
        for _ in range(3):
            await pool.ask(RAW, 10)
        return pool.opened

    assert talking(answer, ask) == 3


def test_a_new_connection_that_breaks_is_told():
    async def answer(_number, writer):
        writer.write(PLAIN[:30])
        await writer.drain()
        writer.close()

    async def ask(pool, _):
        with pytest.raises(Broken, match="hung up in the middle"):
            await pool.ask(RAW, 10)

    talking(answer, ask)


def test_who_no_longer_waits_hangs_up():
    async def answer(number, writer):
        if number:
            writer.write(PLAIN)

    async def ask(pool, seen):
        with pytest.raises(TimeoutError):
            await pool.ask(RAW, 0.05)
        while "gone" not in seen:  # noqa: ASYNC110 - `talking` waits for no longer than thirty seconds
            await asyncio.sleep(0)
        return (await pool.ask(RAW, 10)).status, pool.opened

    assert talking(answer, ask) == (200, 2)


def test_beyond_the_bound_nothing_is_sent():
    gate = asyncio.Event()

    async def answer(_number, writer):
        await gate.wait()
        writer.write(PLAIN)

    async def ask(pool, _):
        under_way = [asyncio.create_task(pool.ask(RAW, 10)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Broken, match="not sent: 2 requests"):
            await pool.ask(RAW, 10)
        gate.set()
        await asyncio.gather(*under_way)
        return (await pool.ask(RAW, 10)).status

    assert talking(answer, ask, most=2) == 200
