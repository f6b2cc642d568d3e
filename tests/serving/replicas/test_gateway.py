"""The gateway's shell: the whole application over real SQL and blobs, with handles that answer for the engines."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from serving.config import ServiceSettings
from serving.dispatch.ports import Claim, Conviction, News
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.records import Quota
from serving.replicas import gateway
from serving.replicas.gateway import Gateway
from serving.request import Holding, Refusal
from tests.serving.dispatch.wired import Engine, listening
from tests.serving.registry.given import ACME, report_of
from tests.serving.samples import PROFILE, tokenizer_json
from tests.serving.test_routing import Handle


@pytest.fixture
def gateways():
    return Handle({"refresh": ["gw1"], "metrics": [], "present": ["gw1"], "hear": [], "consent": []})


@pytest.fixture
def made(tmp_path, monkeypatch, gateways):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json())
    monkeypatch.setattr(gateway, "settle", lambda *_: "gw1")
    monkeypatch.setattr(gateway, "gateway_handle", lambda *_: gateways)
    settings = ServiceSettings(backbone=tmp_path, data=tmp_path / "data")
    engines = Handle({"holdings": [Holding("e1", frozenset())], "report": [], "metrics": {"e1": ("e1", "")}})
    return Gateway(settings, PROFILE, engines, Handle())


async def served(shell, method, path, **options):
    """One request through the application that Ray Serve would mount."""
    app = await shell.__serve_build_asgi_app__()
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path, **options)


def test_the_application_is_ready_once_it_is_built(made):
    answer = asyncio.run(served(made, "GET", "/readyz"))
    assert answer.status_code == 200, answer.text


def test_a_request_reaches_the_engine_and_its_refusal_the_client(made):
    class Full(Engine):
        def submit(self, tickets, sink):
            super().submit(tickets, sink)
            sink(tuple(Refusal(ticket.id, "overloaded", "full", "e1", retry_after=2.0) for ticket in tickets))

    async def main():
        engine = Full()
        async with listening(engine) as address:
            made._engines.answers["holdings"] = [Holding("e1", frozenset(), listens=address)]
            body = {"inputs": "i love it", "adapters": [], "task": "feature-extraction"}
            answer = await served(made, "POST", "/v1/predict", json=body)
            await made._wires.close()
        assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
        assert len(engine.taken) == 1

    asyncio.run(main())


def test_a_nudge_is_answered_even_before_the_registry_is_read(made):
    assert asyncio.run(made.refresh(3)) == "gw1"


def test_a_nudge_brings_the_registry_up_to_date(made):
    async def main():
        await made.__serve_build_asgi_app__()
        assert await made.refresh(0) == "gw1"
        assert made._directory.ready()

    asyncio.run(main())


def test_a_draining_gateway_is_not_ready_and_says_what_is_left(made):
    async def main():
        app = await made.__serve_build_asgi_app__()
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as client:
            assert (await client.get("/readyz")).status_code == 200
            assert await made.drain(1.0) == ("gw1", 0)
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")

    asyncio.run(main())


def test_a_drained_gateway_follows_nothing_and_what_still_runs_is_read_through(made):
    async def main():
        before = asyncio.all_tasks()
        await made.__serve_build_asgi_app__()
        assert len(asyncio.all_tasks() - before) >= 2, "it follows the registry, and the engines"
        await made.drain(1.0)
        assert asyncio.all_tasks() == before
        database = Database.open(made._settings.sql_url)
        revision = Catalog(database).add_version(ACME, "adapter", "ada", report_of(b"late"), promote=False).revision
        database.close()
        assert await made._directory.refresh(revision) == revision

    asyncio.run(main())


def test_the_engines_are_watched_until_what_runs_is_done(made):
    class Door:
        async def drain(self, seconds):
            assert made._directory._task is None
            assert made._fleet._task is not None
            return 2

    async def main():
        await made.__serve_build_asgi_app__()
        made._door = Door()
        assert await made.drain(0.1) == ("gw1", 2)
        assert made._fleet._task is None

    asyncio.run(main())


def test_a_pin_whose_bytes_an_engine_found_bad_is_in_quarantine_and_no_engine_shall_keep_it(made):
    database = Database.open(made._settings.sql_url)
    catalog, report = Catalog(database), report_of(b"never stored")
    catalog.add_version(ACME, "adapter", "ada", report, promote=False)
    catalog.set_pin(ACME, "adapter", "ada", 1, pinned=True)
    database.close()
    made._engines.answers["holdings"] = [Holding("e1", frozenset(), bad=frozenset({report.digest}))]

    async def main():
        await made.__serve_build_asgi_app__()
        await asyncio.gather(*made._accusing._reports.values())
        await made.refresh(made._directory.revision + 1)
        assert (made._directory.quarantined, made._directory.desired().pins) == (1, ())

    asyncio.run(main())


def test_other_gateways_are_heard_and_answered(made):
    async def main():
        claim, news = (
            Claim(1, "gw2", {"p": frozenset("a")}),
            News("gw2", convicted={"p": Conviction(frozenset("ab"), True)}),
        )
        assert await made.present() == "gw1"
        assert (await made.consent(claim), await made.hear(news)) == (frozenset(), News("gw1")), (
            "even before it is built"
        )
        assert await made.drain(1.0) == ("gw1", 0)
        await made.__serve_build_asgi_app__()
        assert await made.consent(claim) == frozenset()
        assert made._dispatcher._suspects.suspected("p")
        assert await made.hear(news) == News("gw1")
        assert made._dispatcher._suspects.convicted("p")
        assert await made.hear(News("gw2")) == replace(news, gateway="gw1"), "a greeting is told what is known"

    asyncio.run(main())


def test_a_gateway_that_comes_up_knows_what_the_others_know(made, gateways):
    known = News("gw2", convicted={"p": Conviction(frozenset("ab"), True)})
    gateways.answers["hear"] = [known]

    async def main():
        await made.__serve_build_asgi_app__()
        assert made._dispatcher._suspects.convicted("p")
        assert ("hear", (News("gw1"),)) in gateways.asked

    asyncio.run(main())


def test_metrics_are_told_with_the_name_of_the_gateway(made):
    name, text = asyncio.run(made.metrics())
    assert name == "gw1"
    assert "chorus_dispatch_calls_total 0.0" in text


def test_metrics_tell_what_the_gateway_sees_around_it(made, gateways):
    gateways.answers.update(present=["gw1", "gw2"], metrics=[("gw1", "")])
    made._engines.answers["holdings"] = [Holding("e1", frozenset()), Holding("e2", frozenset(), warm=False)]
    text = asyncio.run(served(made, "GET", "/metrics")).text
    assert 'chorus_engines{replica="gw1",state="warm"} 1.0' in text
    assert 'chorus_engines{replica="gw1",state="cold"} 1.0' in text
    assert 'chorus_gateways{replica="gw1"} 2.0' in text
    assert 'chorus_quarantined_versions{replica="gw1"} 0.0' in text
    assert 'chorus_replicas_silent_total{replica="gw1"} 1.0' in text, "gw2 gave no metrics; e2 is gone"


def test_of_the_tenants_those_with_a_quota_are_told_apart_first(made):
    async def main():
        await made.__serve_build_asgi_app__()
        made._directory.quota = lambda tenant: Quota(requests_per_s=5.0) if tenant == "gold" else Quota()
        for i in range(200):
            made._metrics.sent(f"t{i}", 1, 1)
        made._metrics.sent("gold", 1, 1)
        _, text = await made.metrics()
        assert 'chorus_tenant_rows_total{tenant="gold"} 1.0' in text
        assert 'chorus_tenant_rows_total{tenant="t199"}' not in text

    asyncio.run(main())


def test_no_torch_is_imported():
    code = "import sys, serving.replicas.gateway; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
