import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from serving.commands import start
from serving.commands.start import refuse_absent_gpu, refuse_open_door, serve
from serving.config import ServiceSettings
from serving.errors import Conflict, Forbidden
from tests.serving.hand import Hand


def settings(data, host):
    return ServiceSettings(backbone=data, data=data, host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_beyond_loopback_the_service_does_not_start_without_a_key(tmp_path, host):
    with pytest.raises(Forbidden) as caught:
        refuse_open_door(settings(tmp_path, host))
    assert f"chorus key create --data {tmp_path}" in str(caught.value)
    made = Hand("").json("key", "create", "--data", tmp_path)
    refuse_open_door(settings(tmp_path, host))
    Hand("").run("key", "revoke", made["key_id"], "--data", tmp_path)
    with pytest.raises(Forbidden):
        refuse_open_door(settings(tmp_path, host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_it_starts_without_one_and_touches_no_data(tmp_path, host):
    data = tmp_path / "data"
    refuse_open_door(settings(data, host))
    assert not data.exists()


def test_the_key_is_made_in_the_database_that_is_served(tmp_path):
    served = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    wanted = ServiceSettings(backbone=tmp_path, data=tmp_path, host="0.0.0.0", database_url=served)
    with pytest.raises(Forbidden) as caught:
        refuse_open_door(wanted)
    command = re.search("`chorus (.*)`", str(caught.value))[1]
    made = Hand("").json(*shlex.split(command))
    refuse_open_door(wanted)
    assert "admin" in made["scopes"]  # else nobody could make another tenant's key over HTTP


def test_the_password_of_the_database_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "any_key", lambda data, url: False)
    url = "postgresql://u:hunter2@db/x"
    with pytest.raises(Forbidden, match=r"--database-url 'postgresql\+psycopg://u:\*\*\*@db/x'"):
        refuse_open_door(ServiceSettings(backbone=tmp_path, data=tmp_path, host="0.0.0.0", database_url=url))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Other processes find this torch."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))

    def has(*, gpu=False, built_for="'13.0'"):
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "torch.py").write_text(
            f"class cuda:\n    is_available = lambda: {gpu}\nclass version:\n    cuda = {built_for}\n"
        )

    return has


@pytest.mark.parametrize(
    ("built_for", "why"),
    [
        ("None", "built without CUDA: install"),
        ("'13.0'", "no GPU: look at `nvidia-smi`"),
        ("open('/none')", r"torch can not look for a GPU \(FileNotFoundError.*\): look at `nvidia-smi`"),
    ],
)
def test_a_gpu_that_is_not_here_is_refused_before_anything_starts(tmp_path, monkeypatch, machine, built_for, why):
    machine(built_for=built_for)
    monkeypatch.setattr(start, "serve_forever", lambda _: pytest.fail("started"))
    data = tmp_path / "data"
    with pytest.raises(Conflict, match=f"^--device cuda: .*{why}.*or serve with --device cpu") as caught:
        serve(replace(settings(data, "127.0.0.1"), device="cuda"))
    assert caught.value.code == "no_gpu"
    assert not data.exists()


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_here_is_let_pass(tmp_path, machine, device):
    machine(gpu=True)
    refuse_absent_gpu(replace(settings(tmp_path, "127.0.0.1"), device=device))


@pytest.mark.parametrize("choice", [{"device": "cpu"}, {"device": "cuda", "ray_address": "auto"}])
def test_where_none_is_needed_or_other_nodes_may_have_one_nobody_looks(tmp_path, monkeypatch, choice):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("looked"))
    refuse_absent_gpu(replace(settings(tmp_path, "127.0.0.1"), **choice))


def test_the_process_that_looks_for_a_gpu_keeps_no_torch(tmp_path, machine):
    machine(gpu=True)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from serving.commands import start\n"
        "from serving.config import ServiceSettings\n"
        "start.refuse_absent_gpu(ServiceSettings(backbone=Path(), data=Path(), device='cuda'))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_engines_that_nobody_gave_are_chosen_before_anything_starts_and_it_is_told_why(tmp_path, monkeypatch):
    started, said = [], []
    monkeypatch.setattr(start, "serve_forever", started.append)
    monkeypatch.setattr(start, "configure", lambda: None)  # the log of the tests stays as it is
    monkeypatch.setattr(start, "log", lambda *_, **fields: said.append(fields))
    monkeypatch.setattr(start.Machine, "here", lambda: start.Machine(5, 1 << 40))
    for engines in (0, 2):
        serve(replace(settings(tmp_path, "127.0.0.1"), engines=engines))
    assert [(one.engines, one.threads) for one in started] == [(4, 1), (2, 0)]
    assert [(one["engines"], one["threads"]) for one in said] == [(4, 1), (2, 0)]
    assert said[0]["why"].startswith("5 cores beside 1 gateways, and 1024.0 GiB free")
    assert said[1]["why"] == "as given"
