"""An engine from settings."""

import logging
import os
import threading
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch

from adapters.kernels.choice import Chosen
from adapters.kernels.cpu import CpuKernels
from serving.config import BatchSettings, CacheSettings, ServiceSettings
from serving.engine import build
from serving.engine import engine as module
from serving.engine.build import parts_of, rehearsed
from serving.engine.engine import Engine
from serving.engine.forward import BackboneForward
from serving.engine.yielding import LEAST
from serving.errors import BadRequest, Conflict
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


def test_an_engine_knows_its_rate_before_anybody_asks(tmp_path):
    engine = Engine.build(settings(tmp_path), source)
    rate, told = engine.report().cost_per_s, engine.metrics_text()
    assert rate > 0
    assert float(told.split("\nchorus_cost_per_second ")[1].split()[0]) == rate
    assert "chorus_forward_seconds_count 0.0" in told, "and counts no step that nobody asked for"
    engine.close()


def test_the_rate_counts_tokens_times_layers(tmp_path):
    parts = parts_of(settings(tmp_path), source)
    ticks = count(0, 4)  # seconds from one look at the clock to the next
    tokens = sum(len(row.ticket.input_ids) for row in parts.rehearsal)
    assert rehearsed(parts, lambda: float(next(ticks))).rate == builders.LAYERS * tokens / 4
    assert parts.rate == 0.0
    parts.release()


def test_loading_gives_way_and_the_threads_that_answer_do_not(tmp_path, monkeypatch):
    loaded, real = [], build.parts_of
    priority = partial(os.getpriority, os.PRIO_PROCESS)

    def watched(*given):
        loaded.append(priority(threading.get_native_id()))
        return real(*given)

    monkeypatch.setattr(module, "parts_of", watched)
    engine = Engine.build(settings(tmp_path), source)
    answering = [t for t in threading.enumerate() if t.name in ("forward", "chorus-loader")]
    assert loaded == [LEAST]
    assert [priority(thread.native_id) for thread in answering] == [priority(threading.get_native_id())] * 2
    engine.close()


def test_as_many_threads_compute_as_was_asked_whichever_thread_computes(tmp_path):
    engine, told = Engine.build(settings(tmp_path), source), []
    thread = threading.Thread(target=lambda: told.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert told == [1]
    engine.close()


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


def test_two_batches_that_are_on_the_device_at_once_share_that_half(tmp_path, monkeypatch):
    monkeypatch.setattr(BackboneForward, "overlaps", True)
    parts = parts_of(settings(tmp_path), source)
    assert parts.budget.device_bytes == 1 << 18
    parts.release()


def test_what_is_not_served_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadRequest, match="int8"):
        parts_of(settings(tmp_path, dtype="int8"), source)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Conflict, match=r"^--device cuda: torch finds no GPU in an engine: .*nvidia-smi") as caught:
        parts_of(settings(tmp_path, device="cuda"), source)
    assert caught.value.code == "no_gpu"


def test_graphs_without_a_gpu_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(BadRequest, match="--cuda-graphs: there are none on cpu: serve with --device cuda"):
        parts_of(settings(tmp_path, cuda_graphs=True), source)


def test_an_engine_loads_its_backbone_with_graphs_only_where_they_are_asked_for(tmp_path, monkeypatch):
    asked = []

    class Loaded(Exception):
        pass

    def load(*_, graphs):
        asked.append(graphs)
        raise Loaded

    monkeypatch.setattr(build.Backbone, "load", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for graphs in (True, False):
        with pytest.raises(Loaded):
            parts_of(settings(tmp_path, device="cuda", cuda_graphs=graphs), source)
    assert asked == [True, False]


@pytest.mark.parametrize("dtypes", [frozenset({torch.float32}), frozenset()])
def test_an_engine_says_what_computes(tmp_path, monkeypatch, dtypes):
    lines, kernels = [], CpuKernels.__new__(CpuKernels)
    kernels.dtypes = dtypes
    found = Chosen(kernels, "its trial failed, or its file")
    monkeypatch.setattr(build, "kernels_of", lambda device: found)
    monkeypatch.setattr(build, "log", lambda part, text, **more: lines.append((part, text, more)))
    parts_of(settings(tmp_path), source).release()
    (told,) = lines
    if dtypes:
        assert told == ("engine", "compiled kernels compute", {"kernels": found.said})
    else:
        assert told[2] == {"level": logging.WARNING, "reason": found.said}


def test_of_images_no_more_may_wait_than_there_is_memory_for(tmp_path, monkeypatch):
    folder = builders.variant("vit", num_channels=3)
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 8, "width": 12}}')
    monkeypatch.setattr(build, "MOST_PIXELS", 10 * 8 * 12 * 3)
    for name, backbone, most in (("images", folder, 10), ("text", builders.folder("bert"), 4096)):
        parts = parts_of(replace(settings(tmp_path / name), backbone=backbone), source)
        assert parts.max_queued == most
        assert rehearsed(parts).rate > 0
        parts.release()
