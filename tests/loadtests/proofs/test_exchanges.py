import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtests.proofs.estates import Estate, Ids
from loadtests.proofs.exchanges import REQUEST_ID, Answer, exchange, said
from loadtests.proofs.prying import Ask

MINE = Ids.of("gggg", "gggg", f"sha256:{'ab' * 32}", "0123456789ab")
NOBODY = Ids.of("hhhh", "hhhh", f"sha256:{'cd' * 32}", "ba9876543210")


def answer(body, status=404, **headers):
    return Answer(status, headers, body)


def test_answers_are_equal_where_only_the_id_differs():
    one, two = answer("no adapter 'gggg-v' of gggg"), answer("no adapter 'hhhh-v' of hhhh")
    assert one.written(MINE, NOBODY) == two.written(MINE, NOBODY)


@pytest.mark.parametrize(
    "other",
    [
        answer("no adapter 'hhhh-v'", 403),
        answer("no adapter 'hhhh-v' "),
        answer("no adapter 'hhhh-v'", etag='"3"'),
        answer("no adapter 'hhhh-e'"),
    ],
    ids=["status", "body", "header", "another-id"],
)
def test_any_other_difference_tells_them_apart(other):
    assert answer("no adapter 'gggg-v'").written(MINE, NOBODY) != other.written(MINE, NOBODY)


def test_the_order_in_which_headers_come_tells_nothing_apart():
    one, two = answer("", a="1", b="2"), answer("", b="2", a="1")
    assert one.written(MINE, NOBODY) == two.written(MINE, NOBODY)


def test_a_word_of_somebody_elses_is_a_leak_unless_the_asker_said_it():
    others = [Estate(MINE, ("gggg", "secret"), b"", logits=())]
    assert answer('{"items": ["gggg-v"]}').leaked("/v1/adapters", others) == ["gggg"]
    assert answer("{}", etag="secret").leaked("/v1/adapters", others) == ["secret"]
    assert answer("no adapter 'gggg-v'").leaked("/v1/adapters/gggg-v", others) == []
    assert answer("bytes \udcff gggg").leaked("", others) == ["gggg"]


def over_http(ask):
    """What `exchange` makes of an answer that repeats the path and holds a byte that is no text."""

    async def tell(request):
        head = {"x-request-id": request.headers["x-request-id"], "server-timing": "total;dur=3", "X-Kept": "a"}
        return web.Response(body=request.raw_path.encode() + await request.read() + b"\xff", headers=head)

    async def run():
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", tell)
        async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
            return await exchange(session, ask)

    return asyncio.run(run())


def test_a_request_is_sent_as_it_is_written_under_our_own_id_and_read_as_bytes():
    got = over_http(Ask("show", "PUT", "/v1/adapters/a@b:c?x=%2f", "name", b"|sent"))
    assert got.body == "/v1/adapters/a@b:c?x=%2f|sent\udcff"
    assert got.headers["x-request-id"] == REQUEST_ID
    assert got.headers["x-kept"] == "a"


def test_headers_that_tell_the_time_are_left_out():
    assert not {"server-timing", "date"} & over_http(Ask("show", "GET", "/", "name")).headers.keys()


def test_everything_that_a_request_says_counts_as_said():
    text = said(Ask("publish", "PUT", "/v1/x", "name", b"body\xff", {"Idempotency-Key": "once"}))
    assert all(part in text for part in ("/v1/x", "body", "once"))
