import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

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
    Hand("").run(*shlex.split(command))
    refuse_open_door(wanted)


def test_the_password_of_the_database_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "any_key", lambda data, url: False)
    url = "postgresql://u:hunter2@db/x"
    with pytest.raises(Forbidden, match=r"--database-url 'postgresql\+psycopg://u:\*\*\*@db/x'"):
        refuse_open_door(ServiceSettings(backbone=tmp_path, data=tmp_path, host="0.0.0.0", database_url=url))


@pytest.mark.parametrize(
    ("built_for", "why"), [(None, "built without CUDA: install"), ("13.0", "no GPU: look at `nvidia-smi`")]
)
def test_a_gpu_that_is_not_here_is_refused_before_anything_starts(tmp_path, monkeypatch, built_for, why):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(start, "serve_forever", lambda _: pytest.fail("started"))
    data = tmp_path / "data"
    with pytest.raises(Conflict, match=f"^--device cuda: .*{why}.*or serve with --device cpu") as caught:
        serve(replace(settings(data, "127.0.0.1"), device="cuda"))
    assert caught.value.code == "no_gpu"
    assert not data.exists()


def test_a_gpu_that_is_here_or_that_other_nodes_may_have_is_let_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    wanted = replace(settings(tmp_path, "127.0.0.1"), device="cuda")
    refuse_absent_gpu(wanted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuse_absent_gpu(replace(wanted, ray_address="auto"))


def test_without_a_gpu_to_look_for_no_torch_is_imported():
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from serving.commands import start\n"
        "from serving.config import ServiceSettings\n"
        "start.refuse_absent_gpu(ServiceSettings(backbone=Path(), data=Path()))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
