import asyncio

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtests.proofs.estates import SHARED, Estate, Ids
from loadtests.proofs.own_state import changes, state

IDS = Ids.of("gggg", "gggg", f"sha256:{'ab' * 32}", "0123456789ab")
ESTATE = Estate(IDS, (), b"", logits=())


def seen(held, estate=ESTATE):
    """The state over HTTP of a service that says `held` of everything; a path of its own may say another thing."""

    async def tell(request):
        told = held.get(request.raw_path, held["/"])
        return web.Response(body=told) if isinstance(told, bytes) else web.json_response(told)

    async def run():
        app = web.Application()
        app.router.add_get("/{rest:.*}", tell)
        async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
            return await state(session, estate)

    return asyncio.run(run())


SAME = {"/": {"items": []}}


def test_everything_that_a_tenant_owns_is_looked_at():
    paths = seen(SAME).keys()
    assert paths >= {f"/v1/{kind}" for kind in ("adapters", "targets", "token-embeddings", "keys")}
    assert paths >= {f"/v1/adapters/gggg-v{rest}" for rest in ("", ":history", ":package")}
    assert paths >= {f"/v1/token-embeddings/gggg-e{rest}" for rest in ("", ":history", ":package")}
    assert {"/v1/targets/gggg-t", f"/v1/adapters/{SHARED}", "/v1/token-embeddings/active"} <= paths
    assert any(path.startswith("/v1/audit") for path in paths)


def test_any_path_that_says_another_thing_later_is_a_change():
    before = {"birch": seen(SAME)}
    assert changes(before, {"birch": seen(SAME)}) == []
    for path in before["birch"]:
        after = {"birch": seen({**SAME, path: {"items": ["more"]}})}
        assert changes(before, after) == [f"birch: {path}"]


def test_packages_are_told_by_the_digest_of_their_bytes():
    path = "/v1/adapters/gggg-v:package"
    one, two = (seen({**SAME, path: data})[path] for data in (b"\xff bytes", b"\xff other"))
    assert one != two
    assert len(one) == len(two) == 64


def test_what_changed_is_told_by_owner_and_path():
    before = {"one": {"/a": 1, "/b": 2}, "two": {"/a": 1}}
    assert changes(before, before) == []
    assert changes(before, {"one": {"/a": 1}, "two": {"/a": 3}}) == ["one: /b", "two: /a"]
