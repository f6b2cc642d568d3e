"""An engine from settings."""

import pytest
import torch

from serving.config import BatchSettings, CacheSettings, ServiceSettings
from serving.engine.build import parts_of
from serving.engine.engine import Engine
from serving.errors import BadRequest
from tests.adapters import builders


def settings(folder, **options):
    cache = CacheSettings(device_bytes=1 << 20, host_bytes=1 << 20, disk_bytes=1 << 20)
    return ServiceSettings(builders.folder("bert"), folder, cache=cache, threads=1, **options)


def source(digest):
    raise FileNotFoundError(digest)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_an_engine_is_built_and_reports_ready(tmp_path):
    engine = Engine.build(settings(tmp_path), source, "r7")
    report = engine.report()
    assert (report.replica, report.ready, report.faults) == ("r7", True, ())
    assert report.budgets == {"device": 1 << 20, "host": 1 << 20, "disk": 1 << 20}
    engine.close()
    assert engine.report().faults


def test_two_engines_of_one_data_folder_keep_apart(tmp_path):
    one, other = parts_of(settings(tmp_path), source), parts_of(settings(tmp_path), source)
    assert one.disk.folder != other.disk.folder
    one.release()
    other.release()


def test_a_batch_may_fill_half_of_the_device(tmp_path):
    parts = parts_of(settings(tmp_path, batch=BatchSettings(max_rows=5, max_tokens=77, step_s=0.02)), source)
    assert (parts.budget.rows, parts.budget.tokens, parts.budget.device_bytes) == (5, 77, 1 << 19)
    assert parts.step_s == 0.02
    assert torch.get_num_threads() == 1
    parts.release()


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"device": "cuda"}])
def test_what_is_not_served_is_refused(tmp_path, options):
    if options.get("device") == "cuda" and torch.cuda.is_available():
        options = {"device": "cuda", "dtype": "int8"}
    with pytest.raises(BadRequest, match=r"int8|CUDA"):
        parts_of(settings(tmp_path, **options), source)
