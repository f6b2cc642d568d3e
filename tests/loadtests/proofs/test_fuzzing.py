import json
import subprocess
import tomllib
from types import SimpleNamespace

import pytest

from loadtests.proofs import fuzzing
from loadtests.proofs.fuzzing import Exchange, _evidence, _fuzz, exchanges, faulty, found
from loadtests.proofs.given import Given
from loadtests.proofs.stage import ROOT, StageFailed


def entry(status, text="{}", method="GET", url="http://127.0.0.1:8000/v1/adapters?x=1"):
    return {"request": {"method": method, "url": url}, "response": {"status": status, "content": {"text": text}}}


def test_exchanges_are_read_from_the_report():
    report = {"log": {"entries": [entry(404, '{"code": "not_found"}'), entry(200, "plain"), entry(200, "[1]")]}}
    assert list(exchanges(report)) == [
        Exchange("GET", "/v1/adapters", 404, "not_found"),
        Exchange("GET", "/v1/adapters", 200, ""),
        Exchange("GET", "/v1/adapters", 200, ""),
    ]


@pytest.mark.parametrize(
    ("status", "code", "bad"),
    [
        (200, "", False),
        (404, "x", False),
        (500, "internal_error", True),
        (503, "not_ready", True),
        (504, "deadline_exceeded", False),
        (504, "", True),
        (0, "", True),
    ],
)
def test_a_server_error_is_one_unless_a_deadline_asked_for_it(status, code, bad):
    assert faulty(Exchange("GET", "/", status, code)) is bad


def test_without_schemathesis_the_remedy_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzzing.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageFailed, match=r"pip install 'chorus\[proofs\]'"):
        found()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(wanted.startswith("schemathesis==") for wanted in extras["proofs"])


def test_beside_python_or_on_the_path_it_is_found(monkeypatch, tmp_path):
    command = tmp_path / "schemathesis"
    command.touch(mode=0o755)
    monkeypatch.setattr(fuzzing.sys, "executable", str(tmp_path / "python"))
    assert found() == str(command)
    monkeypatch.setattr(fuzzing.sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() == str(command)


def test_what_ends_keys_is_left_out_or_fuzzed_alone_with_the_key_and_the_seed(monkeypatch, tmp_path):
    ran = []

    def run(words, **options):
        ran.append(words)
        (tmp_path / f"{'exclude' if '--exclude-operation-id' in words else 'include'}.har").write_text(
            json.dumps({"log": {"entries": []}})
        )

    monkeypatch.setattr(subprocess, "run", run)
    stage = SimpleNamespace(url="http://127.0.0.1:1")
    for how in ("exclude", "include"):
        assert _fuzz("schemathesis", stage, Given(tmp_path, seed=7), "ck_1", how) == {"log": {"entries": []}}
    for words, how in zip(ran, ("exclude", "include"), strict=True):
        assert words[words.index("--seed") + 1] == "7"
        assert "Authorization: Bearer ck_1" in words
        assert [words[i + 1] for i, word in enumerate(words) if word == f"--{how}-operation-id"] == [*fuzzing.SUICIDAL]


def test_a_run_that_told_nothing_is_no_proof(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", lambda words, **options: options["stdout"].write("no such host"))
    with pytest.raises(StageFailed, match="no such host"):
        _fuzz("schemathesis", SimpleNamespace(url=""), Given(tmp_path), "", "exclude")


def evidence(tmp_path, *, seen=None, statuses=(200, 200), gone=0):
    asked = [Exchange("GET", "/", 404, "x")] * 100 if seen is None else seen
    found = _evidence(Given(tmp_path, quick=True), asked, 2, list(statuses), gone)
    return [figure.name for figure in found.broken]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"seen": [Exchange("GET", "/", 404, "x")] * 99 + [Exchange("GET", "/", 500, "x")]}, ["server errors"]),
        ({"seen": [Exchange("GET", "/", 404, "x")] * 3}, ["requests"]),
        ({"seen": [Exchange("GET", "/", 401, "x")] * 100}, ["share of requests without a key"]),
        ({"statuses": (200, 401)}, ["keys that were good to the end"]),
        ({"gone": 1}, ["replicas that were restarted"]),
    ],
)
def test_each_breach_breaks_its_figure(tmp_path, change, broken):
    assert evidence(tmp_path, **change) == broken
