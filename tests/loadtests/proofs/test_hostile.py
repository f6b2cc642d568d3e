import asyncio
import json
from collections import Counter

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.formats import native
from loadtests.proofs.evidence import Evidence
from loadtests.proofs.given import Given
from loadtests.proofs.hostile import NAMES, Attack, Met, Seen, _evidence, _send, attacks, refused_with_reason
from loadtests.proofs.table import PROOFS
from loadtests.synthetic import CONFIGS, make_package
from serving.registry.check_worker import refusal_of

ALL = Counter({"shape": 59})
KEPT = {"Engine": [1], "Gateway": [2], "Checker": [3]}


@pytest.fixture
def planned(profile):
    return attacks([native.write(make_package(profile, method, "sound", 0)) for method in CONFIGS], 100, 1)


def test_all_are_broken_but_a_tenth_more_under_a_name_or_with_a_header_that_is_none(planned):
    kinds = Counter(attack.kind for attack in planned)
    assert kinds.total() == 100 + 10
    assert kinds["name"] == kinds["header"] == 5
    assert len(kinds) == 18 + 2


def test_every_door_is_tried_and_no_two_attacks_share_a_name(planned):
    paths = [attack.path for attack in planned if attack.kind not in ("name", "header")]
    assert len({path.partition(":")[0] for path in paths}) == len(paths)
    doors = {(attack.method, attack.path.split("/")[2], attack.path.endswith(":validate")) for attack in planned}
    assert len(doors) >= 4
    assert {attack.path.removeprefix("/v1/adapters/") for attack in planned if attack.kind == "name"} <= set(NAMES)


@pytest.mark.parametrize(
    ("status", "body", "good"),
    [
        (422, {"code": "invalid_package", "detail": "why"}, True),
        (422, {"code": "invalid_package", "detail": ""}, False),
        (404, {}, False),
        (500, {"code": "internal_error", "detail": "why"}, False),
        (201, {"code": "x", "detail": "why"}, False),
        (0, {}, False),
    ],
)
def test_a_refusal_is_a_4xx_that_says_why(status, body, good):
    assert refused_with_reason(status, body) is good


def test_an_attack_goes_over_the_wire_as_it_is_written():
    seen = []

    async def refuse(request):
        seen.append((request.method, request.raw_path, await request.read()))
        status = 200 if "taken" in request.raw_path else 422
        return web.json_response({"code": "invalid_package", "detail": "why"}, status=status)

    async def exchange(met):
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", refuse)
        async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
            for path in ("/v1/adapters/..%2f..%2fetc", "/taken"):
                await _send(session, Attack("name", "PUT", path, b"bytes", {}), met)

    asyncio.run(exchange(met := Met()))
    assert seen[0] == ("PUT", "/v1/adapters/..%2f..%2fetc", b"bytes")
    assert met.refused == {"name": 1}
    assert len(met.taken) == 1


@pytest.mark.parametrize(
    ("detail", "renewed", "fatal"),
    [
        (refusal_of(MemoryError())["message"], 1, []),
        (refusal_of(RecursionError())["message"], 0, ["shape: the check failed on this file (RecursionError)"]),
        ("the checker died on this file", 0, ["shape: the checker died on this file"]),
        ("the check took longer than 60 s", 0, ["shape: the check took longer than 60 s"]),
    ],
)
def test_a_process_that_makes_way_as_it_says_is_told_from_one_that_a_package_ends(detail, renewed, fatal):
    async def refuse(_):
        return web.json_response({"code": "check_failed", "detail": detail}, status=422)

    async def exchange(met):
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", refuse)
        async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
            await _send(session, Attack("shape", "PUT", "/v1/adapters/evil", b"bytes", {}), met)

    asyncio.run(exchange(met := Met()))
    assert (met.renewed, met.fatal) == (renewed, fatal)


def evidence(tmp_path, *, exit_code=0, stray=False, planned=None, **changes) -> Evidence:
    seen = Seen(Met(Counter({"shape": 59})), KEPT, KEPT, 0, Counter(), [0.1], ["innocent", "default"])
    planned = planned or Counter(shape=54, name=3, header=2)
    for name, value in changes.items():
        setattr(seen, name, value)
    (tmp_path / "blobs").mkdir(exist_ok=True)
    if stray:
        (tmp_path / "blobs" / "sha256").mkdir()
        (tmp_path / "blobs" / "sha256" / "left").write_bytes(b"no blob")
    return _evidence(Given(tmp_path, quick=True), planned, seen, exit_code, tmp_path)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        ({"met": Met(Counter({"shape": 58}))}, ["refused with a 4xx and a reason"]),
        ({"planned": Counter(shape=53, name=3, header=3)}, ["broken packages"]),
        ({"planned": Counter(shape=55, name=2, header=2)}, ["sound ones under a name or with a header that is none"]),
        ({"met": Met(ALL, fatal=["shape: died"])}, ["died, failed or hung of a package: what reads them"]),
        ({"checkers": 1}, ["restarts of what reads packages, unplanned"]),
        ({"checkers": 2, "met": Met(ALL, renewed=1)}, ["restarts of what reads packages, unplanned"]),
        ({"checkers": 1, "met": Met(ALL, renewed=1)}, []),
        ({"after": {**KEPT, "Engine": [9]}}, ["replicas that were restarted"]),
        ({"meanwhile": Counter({"503": 1})}, ["failed or wrong predictions meanwhile"]),
        ({"stored": ["innocent", "evil-3"]}, ["names that an attack made"]),
        ({"before": {}, "after": {}}, ["replicas that were looked at"]),
        ({"stray": True}, ["files that nothing leads to"]),
        ({"exit_code": 1}, ["exit code of the stop"]),
    ],
)
def test_each_breach_breaks_its_figure(tmp_path, changes, broken):
    assert [figure.name for figure in evidence(tmp_path, **changes).broken] == broken


@pytest.mark.ray
def test_a_real_service_refuses_them_all(tmp_path):
    found = PROOFS["hostile"].run(Given(tmp_path, quick=True))
    assert found.broken == (), json.dumps(found.json(), indent=1)
    assert found.holds
