"""The whole load test against an HTTP server that answers as the service does, honestly or not."""

import asyncio
import json
import zlib
from dataclasses import replace

import pytest
from aiohttp import web

from adapters.formats import native
from loadtests.__main__ import exit_code, main, settings_of
from loadtests.run import Settings, longest_text, run
from loadtests.service import ServiceFailed
from loadtests.trace import TraceSpec

SPEC = TraceSpec(adapters=5, rate=400.0, requests=60, duration=None, zipf_s=1.0, texts_per_adapter=2, seed=0)


class Server:
    """Published packages, and answers derived from the digest and the text, with faults to switch on."""

    def __init__(self, profile):
        self.profile = profile
        self.packages = {}
        self.predictions = 0
        self.lie = None
        self.alone = 5 * SPEC.texts_per_adapter  # the answers before the load starts
        self.alike = False

    async def limits(self, _):
        return web.json_response({"profile": self.profile.to_json()})

    async def publish(self, request):
        data = await request.read()
        self.packages[request.match_info["name"]] = native.read(data)
        return web.json_response({"version": 1, "digest": native.digest(data)}, status=201)

    async def predict(self, request):
        asked = await request.json()
        (reference,), (text,) = asked["adapters"], asked["inputs"]
        self.predictions += 1
        name, digest = reference.split("@")
        answer = self.answer(name, digest, text)
        if self.lie and self.predictions > self.alone:
            answer = self.lie(answer)
        return answer if isinstance(answer, web.Response) else web.json_response(answer)

    def answer(self, name, digest, text):
        labels = self.packages[name].manifest.head.labels
        seeds = [zlib.crc32(f"{'' if self.alike else digest}/{text}/{i}".encode()) for i in range(len(labels))]
        tier = "device" if self.predictions % 3 else "host"
        return {
            "outputs": [[{"label": k, "score": seed % 1000 / 100} for k, seed in zip(labels, seeds, strict=True)]],
            "target": {"adapters": [{"name": name, "version": 1, "digest": digest}]},
            "residency": {name: tier},
        }


@pytest.fixture
def server(profile):
    return Server(profile)


def load(server, out, key=None, **changes):
    async def session():
        app = web.Application()
        app.router.add_get("/v1/limits", server.limits)
        app.router.add_put("/v1/adapters/{name}", server.publish)
        app.router.add_post("/v1/predict", server.predict)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        settings = Settings("zipf", f"http://{host}:{port}/", SPEC, out)
        try:
            return await run(replace(settings, **changes), key, tell=lambda line: None)
        finally:
            await runner.cleanup()

    return asyncio.run(session())


def test_an_honest_service_passes_and_leaves_its_files(server, tmp_path):
    report = load(server, tmp_path)
    assert (report.requests, report.answered, report.wrong, dict(report.errors)) == (60, 60, 0, {})
    assert server.predictions == server.alone + 60
    assert 0.5 < report.hit_rate < 0.8
    assert exit_code(report, 0.0) == 0
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 60
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["seed"] == 0


def another_answers(answer):
    answer["target"]["adapters"][0]["digest"] = "sha256:" + "0" * 64
    return answer


def scores_drift(answer):
    answer["outputs"][0][0]["score"] += 0.001
    return answer


@pytest.mark.parametrize("lie", [another_answers, scores_drift, lambda answer: {}])
def test_every_kind_of_wrong_answer_is_caught(server, tmp_path, lie):
    server.lie = lie
    report = load(server, tmp_path)
    assert report.wrong == 60
    assert exit_code(report, 1.0) == 1


def test_a_refusal_is_an_error_and_no_wrong_answer(server, tmp_path):
    server.lie = lambda answer: web.json_response({"code": "overloaded"}, status=429)
    report = load(server, tmp_path)
    assert (report.wrong, report.answered, report.errors) == (0, 0, {"429 overloaded": 60})
    assert exit_code(report, 0.0) == 3
    assert exit_code(report, 1.0) == 0


def test_adapters_that_answer_alike_make_the_check_worthless_and_stop_the_run(server, tmp_path):
    server.alike = True
    with pytest.raises(ServiceFailed, match="a mix-up would not show"):
        load(server, tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_a_service_that_stores_other_bytes_stops_the_run(server, tmp_path):
    async def publish(request):
        return web.json_response({"digest": "sha256:beef"}, status=201)

    server.publish = publish
    with pytest.raises(ExceptionGroup) as failed:
        load(server, tmp_path)
    assert all("was published as sha256:beef" in str(error) for error in failed.value.exceptions)


def test_no_service_is_told_without_a_traceback(tmp_path, capsys):
    assert main(["run", "zipf", "--url", "http://127.0.0.1:1", "--out", str(tmp_path)]) == 4
    assert "error: GET /v1/limits" in capsys.readouterr().err


def test_the_command_line_overrides_the_scenario():
    from loadtests.__main__ import parser

    given = parser().parse_args(
        ["run", "zipf", "--url", "u", "--duration", "3", "--zipf-s", "0", "--adapters", "7", "--methods", "lora,ia3"]
    )
    settings = settings_of(given)
    assert settings.trace == TraceSpec(7, 20.0, None, 3.0, 0.0, 2, 0)
    assert settings.methods == ("lora", "ia3")


def test_texts_are_cut_to_what_a_small_backbone_takes():
    assert longest_text(512) == 82
    assert longest_text(128) == 18
    assert longest_text(8192) == 96
    assert longest_text(10) == 3


def test_list_names_every_scenario(capsys):
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("zipf", "uniform", "single"))
