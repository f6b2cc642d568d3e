import json

import numpy as np
import pytest
import torch

from loadtests.micro import mixed
from loadtests.micro.agreement import WITHIN
from loadtests.micro.rounds import Rounds
from tests.loadtests.conftest import TINY


def test_lengths_are_log_normal_around_32_and_clipped():
    found = mixed.lengths(20_000, seed=1)
    assert found.min() == 8
    assert found.max() == 128
    assert found.mean() == pytest.approx(32, abs=0.7)
    assert (mixed.lengths(32, 3) == mixed.lengths(32, 3)).all()


def test_padding_marks_the_real_tokens():
    padded, mask = mixed.pad([np.array([5, 6, 7]), np.array([8])])
    assert padded.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_the_contenders_run_on_a_small_backbone_and_agree():
    bench = mixed.build(TINY, rows=6, methods=["bottleneck", "lora", "prompt_tuning"], seed=0)
    run = bench.contenders()
    assert max(bench.errors().values()) < 1e-5
    distinct = run[mixed.MIXED]()
    assert [tuple(logits.shape) for logits in distinct] == [(3,)] * 6
    assert all(torch.isfinite(logits).all() for logits in distinct)
    assert len({held.adapter.manifest.head.labels for held in bench.residents}) == 6


def test_an_engine_that_disagrees_with_the_plain_model_is_seen():
    bench = mixed.build(TINY, rows=2, methods=["lora"], seed=0)
    with torch.no_grad():
        bench.plain.embeddings.word_embeddings.weight.mul_(3.0)
    errors = bench.errors()
    assert min(errors[mixed.BARE], errors[mixed.TORCH_BARE]) > 1e-2
    assert max(errors[mixed.MIXED], errors[mixed.TORCH_MIXED]) < 1e-5


@pytest.mark.parametrize("dtype", WITHIN)
def test_a_row_that_is_answered_by_another_rows_adapter_is_seen(monkeypatch, dtype):
    bench = mixed.build(TINY, rows=3, methods=["lora"], seed=0, dtype=dtype)
    run = bench.backbone.run

    def swapped(rows, want):
        first, second, *others = run(rows, want)
        return [second, first, *others] if rows[0].head is not None else [first, second, *others]

    monkeypatch.setattr(bench.backbone, "run", swapped)
    errors = bench.errors()
    assert errors[mixed.MIXED] > WITHIN[dtype]
    assert max(errors[name] for name in errors if name != mixed.MIXED) < WITHIN[dtype]


def test_the_figures_name_both_ratios():
    torch_only = {mixed.TORCH_MIXED: (4.0,), mixed.TORCH_BARE: (2.0,)}
    found = Rounds({mixed.MIXED: (2.0,), mixed.BARE: (1.0,), mixed.PLAIN: (3.0,), **torch_only})
    assert mixed.told(found, 32)[-4:] == [
        "distinct adapters / backbone only: 0.500",
        "distinct adapters, torch only / backbone only, torch only: 0.500",
        "distinct adapters, torch only / backbone only: 0.250",
        "backbone only / plain transformers: 3.000",
    ]


def test_every_method_can_be_measured_in_either_type():
    for dtype, within in WITHIN.items():
        bench = mixed.build(TINY, rows=len(mixed.METHODS), methods=list(mixed.METHODS), seed=0, dtype=dtype)
        assert max(bench.errors().values()) < within


def test_a_promise_that_is_missed_is_told_and_fails(monkeypatch, capsys):
    kept, missed = (mixed.Promise("minilm", "float32", ("lora",), least) for least in (0.0, 1e9))
    monkeypatch.setattr(mixed, "minilm", lambda: TINY)
    for promises, code in (((kept,), 0), ((kept, missed), 1)):
        monkeypatch.setattr(mixed, "PROMISES", promises)
        assert mixed.main(["--judge", "--rows", "2", "--rounds", "1"]) == code
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["holds"] for line in told] == [promise is kept for promise in promises]
        assert all(line["ratio"] > 0 for line in told)
        assert all(set(line["apart"]) == {mixed.MIXED, mixed.BARE} for line in told)
        assert all(max(line["apart"].values()) < 1e-5 for line in told)


def test_no_time_counts_where_an_answer_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(mixed, "minilm", lambda: TINY)
    monkeypatch.setattr(mixed, "PROMISES", (mixed.Promise("minilm", "float32", ("lora",), 0.0),))
    monkeypatch.setattr(mixed.Bench, "errors", lambda *_: {mixed.MIXED: 1.0, mixed.BARE: 0.0})
    monkeypatch.setattr(mixed, "interleave", lambda *_: pytest.fail("it was measured"))
    assert mixed.main(["--judge", "--rows", "2", "--rounds", "1"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["apart"][mixed.MIXED]) == (False, 1.0)
    assert "ratio" not in told
    assert mixed.main(["--method", "lora", "--rows", "2"]) == 1
    assert "rows/s" not in capsys.readouterr().out


def test_an_unknown_method_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        mixed.main(["--method", "magic"])
    assert stopped.value.code == 2
    assert "unknown method magic" in capsys.readouterr().err
