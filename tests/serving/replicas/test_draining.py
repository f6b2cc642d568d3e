"""A gateway on its way out."""

import asyncio

import httpx2
import pytest

from serving.replicas.draining import Draining
from tests.serving.virtual_time import run


class Slow:
    """An application that answers when it is let."""

    def __init__(self):
        self.let = asyncio.Event()
        self.asked = []

    async def __call__(self, scope, receive, send):
        self.asked.append(scope["path"])
        if scope["path"].startswith("/slow"):
            await self.let.wait()
        if scope["path"] == "/fails":
            raise ValueError("bug")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def client_of(door):
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://127.0.0.1")


def test_what_runs_is_finished_and_what_comes_is_refused_with_a_time():
    async def main():
        app = Slow()
        door = Draining(app, lambda: "req_new")
        async with client_of(door) as client:
            running = asyncio.create_task(client.get("/slow"))
            await asyncio.sleep(0.1)
            leaving = asyncio.create_task(door.drain(10))
            await asyncio.sleep(0.1)
            refused = await client.post("/v1/predict", json={})
            ready = await client.get("/readyz")
            assert not leaving.done()
            app.let.set()
            assert await leaving == 0
            assert (await running).text == "done"
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert (refused.json()["code"], refused.headers["retry-after"]) == ("draining", "5")
        assert refused.headers["x-request-id"] == refused.json()["request_id"] == "req_new"
        assert ready.status_code == 503
        assert "/v1/predict" not in app.asked

    run(main())


def test_it_waits_no_longer_than_it_may():
    async def main():
        loop = asyncio.get_running_loop()
        app = Slow()
        door = Draining(app, lambda: "req_new")
        async with client_of(door) as client:
            running = [asyncio.create_task(client.get("/slow")) for _ in range(3)]
            await asyncio.sleep(0.1)
            began = loop.time()
            assert await door.drain(10) == 3
            assert loop.time() - began == pytest.approx(10)
            app.let.set()
            await asyncio.gather(*running)

    run(main())


def test_an_idle_gateway_leaves_at_once_and_how_it_is_may_be_asked_to_the_end():
    async def main():
        app = Slow()
        door = Draining(app, lambda: "req_new")
        assert await door.drain(10) == 0
        async with client_of(door) as client:
            assert [(await client.get(path)).status_code for path in ("/livez", "/metrics", "/readyz")] == [
                200,
                200,
                503,
            ]

    run(main())


def test_a_request_that_fails_is_over_too():
    async def main():
        door = Draining(Slow(), lambda: "req_new")
        async with client_of(door) as client:
            with pytest.raises(ValueError, match="bug"):
                await client.get("/fails")
        assert await door.drain(10) == 0

    run(main())


def test_what_is_no_request_passes():
    async def main():
        seen = []

        async def app(scope, receive, send):
            seen.append(scope["type"])

        await Draining(app, lambda: "")({"type": "lifespan"}, None, None)
        assert seen == ["lifespan"]

    run(main())
