import json

import numpy as np
import pytest
import torch

from loadtests.micro import mixed
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
    assert bench.worst_error() < 1e-5
    distinct = run[mixed.MIXED]()
    assert [tuple(logits.shape) for logits in distinct] == [(3,)] * 6
    assert all(torch.isfinite(logits).all() for logits in distinct)
    assert len({held.adapter.manifest.head.labels for held in bench.residents}) == 6


def test_an_engine_that_disagrees_with_the_plain_model_is_seen():
    bench = mixed.build(TINY, rows=2, methods=["lora"], seed=0)
    with torch.no_grad():
        bench.plain.embeddings.word_embeddings.weight.mul_(3.0)
    assert bench.worst_error() > 1e-3


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
    for dtype, error in mixed.ERRORS.items():
        bench = mixed.build(TINY, rows=len(mixed.METHODS), methods=list(mixed.METHODS), seed=0, dtype=dtype)
        assert bench.worst_error() < error
        run = bench.contenders()
        for distinct, plain in zip(run[mixed.MIXED](), run[mixed.TORCH_MIXED](), strict=True):
            assert torch.allclose(distinct, plain, atol=error)


def test_a_promise_that_is_missed_is_told_and_fails(monkeypatch, capsys):
    kept, missed = (mixed.Promise("minilm", "float32", ("lora",), least) for least in (0.0, 1e9))
    monkeypatch.setattr(mixed, "minilm", lambda: TINY)
    for promises, code in (((kept,), 0), ((kept, missed), 1)):
        monkeypatch.setattr(mixed, "PROMISES", promises)
        assert mixed.main(["--judge", "--rows", "2", "--rounds", "1"]) == code
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["holds"] for line in told] == [promise is kept for promise in promises]
        assert all(line["ratio"] > 0 for line in told)


def test_every_point_of_the_judge_is_a_promise():
    least = {(p.shape, p.dtype, p.methods, p.torch_only): p.least for p in mixed.PROMISES}
    assert (
        least["bert-base", "bfloat16", ("bottleneck",), False]
        == least["bert-base", "bfloat16", ("lora",), False]
        == 0.9
    )
    assert least["bert-base", "bfloat16", ("double_bottleneck",), False] == 0.87
    assert least["minilm", "bfloat16", ("lora",), False] == 0.85
    assert least["minilm", "bfloat16", mixed.SIX, False] == 0.8
    assert least["gpt2", "bfloat16", ("lora",), False] == least["llama", "bfloat16", ("bottleneck",), False] == 0.9
    assert least["gpt2", "float32", ("double_bottleneck",), False] == 0.87
    assert least["llama", "bfloat16", mixed.DECODING, False] == 0.8
    assert {p.least for p in mixed.PROMISES if p.dtype == "float32" and p.shape not in mixed.DECODERS} == {0.9}
    assert {p.least for p in mixed.PROMISES if p.torch_only} == {0.7}
    assert len(mixed.SIX) == 6


def test_an_unknown_method_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        mixed.main(["--method", "magic"])
    assert stopped.value.code == 2
    assert "unknown method magic" in capsys.readouterr().err
