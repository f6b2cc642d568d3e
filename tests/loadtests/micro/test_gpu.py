import json
from types import SimpleNamespace

import pytest
import torch

from adapters.architectures.profile import read_profile
from loadtests.micro import gpu
from tests.loadtests.conftest import TINY

CPU = torch.device("cpu")
GRAPHS = SimpleNamespace(replayed=7, refused={"one": "a reason", "another": "a reason"})


@pytest.fixture(scope="module")
def bench():
    return gpu.build(TINY, CPU, torch.float32, rows=3, method="bottleneck", seed=0)


def figure(ratio, bound, *, at_least):
    return gpu.Figure("f", ratio, bound, at_least=at_least, detail={})


def test_a_machine_without_a_gpu_is_refused_with_the_reason(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        gpu.main([])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "finds no GPU" in told
    assert torch.__version__ in told


def test_a_gpu_that_torch_finds_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu.missing() is None


def test_both_passes_have_the_same_tokens_and_only_one_has_adapters(bench):
    mixed, bare = (
        bench.backbone.plan(rows, [row.head is not None for row in rows]) for rows in bench.batches(12, seed=0)
    )
    assert mixed.layout.starts == bare.layout.starts == (0, 12, 24, 36)
    assert len(mixed.heads) == 1
    assert not bare.heads
    assert mixed.steps
    assert not bare.steps
    assert [step.runs.bounds for step in next(iter(mixed.steps.values()))] == [((0, 12), (12, 24), (24, 36))]


def test_planning_is_within_the_clock(bench, monkeypatch):
    planned, plan = [], bench.backbone.plan
    monkeypatch.setattr(bench.backbone, "plan", lambda rows, heads: planned.append(rows) or plan(rows, heads))
    once = bench.once(bench.batches(8, seed=0)[0])
    assert not planned
    once()
    once()
    assert len(planned) == 2


def test_every_row_has_an_adapter_of_its_own_in_one_arena(bench):
    assert len({held.start for held in bench.residents}) == 3
    assert len({held.arena.data_ptr() for held in bench.residents}) == 1
    assert not torch.equal(bench.residents[0].adapter.flat, bench.residents[1].adapter.flat)
    assert bench.tier.check() == ()


def test_operations_are_those_of_the_maps_and_of_the_scores():
    geometry = read_profile(TINY).geometry
    h, i, layers = geometry.hidden_size, geometry.intermediate_size, geometry.layers
    maps = 2 * 5 * 7 * layers * (4 * h * h + 2 * h * i)
    assert gpu.multiplications(geometry, 5, 7) == maps + layers * 5 * 2 * (2 * 7 * 7 * h)


def test_the_rate_is_that_of_the_fastest_product(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: next(clock) ** 2 / 1000)
    settled = []
    assert gpu.rate(CPU, torch.float32, lambda: settled.append(1), side=10) == pytest.approx(2000 / 0.007)
    assert len(settled) == 26


def test_uploads_happen_while_passes_run_and_leave_the_tier_sound(bench):
    found = gpu.uploads(bench, 8, passes=30)
    assert found.detail["uploads"] > 0
    assert found.ratio > 0
    assert not found.at_least
    assert bench.tier.check() == ()


def test_an_upload_that_fails_is_told(bench, monkeypatch):
    def fail(*_):
        raise OSError("the device is gone")

    monkeypatch.setattr(gpu, "placed", fail)
    with pytest.raises(OSError, match="the device is gone"):
        gpu.uploads(bench, 8, passes=2)


def test_bounds_hold_from_below_and_from_above():
    assert figure(0.9, 0.9, at_least=True).holds
    assert not figure(0.89, 0.9, at_least=True).holds
    assert figure(1.2, 1.2, at_least=False).holds
    assert not figure(1.21, 1.2, at_least=False).holds


def test_every_figure_that_is_asked_for_is_measured(bench):
    found = list(gpu.figures(bench, rounds=2, passes=5, side=64))
    assert [one.name for one in found] == [
        "3 x 128: distinct adapters / backbone only",
        "3 x 128: backbone only / matrix rate",
        "3 x 32: distinct adapters / backbone only",
        "p99 of 5 passes during uploads / quiet",
    ]
    assert [one.bound for one in found] == [0.92, 0.40, 0.85, 1.2]


@pytest.mark.parametrize(("ratio", "code"), [(0.95, 0), (0.5, 1)])
def test_figures_are_lines_of_json_and_a_missed_bound_is_the_exit_code(monkeypatch, capsys, ratio, code):
    monkeypatch.setattr(gpu, "missing", lambda: None)
    monkeypatch.setattr(
        gpu, "build", lambda *_, graphs: SimpleNamespace(backbone=SimpleNamespace(replays=GRAPHS if graphs else None))
    )
    monkeypatch.setattr(gpu, "figures", lambda *_: iter([figure(ratio, 0.9, at_least=True)]))
    assert gpu.main(["--backbone", str(TINY), "--method", "lora"]) == code
    plain, graphs = map(json.loads, capsys.readouterr().out.splitlines())
    for told in (plain, graphs):
        assert (told["method"], told["ratio"], told["holds"]) == ("lora", ratio, code == 0)
    assert (plain["graphs"], graphs["graphs"]) == (False, True)
    assert "replayed" not in plain
    assert (graphs["replayed"], graphs["refused"]) == (7, ["a reason"])
