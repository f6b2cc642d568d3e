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
    found = Rounds({mixed.MIXED: (2.0,), mixed.BARE: (1.0,), mixed.PLAIN: (3.0,)})
    assert mixed.told(found, 32)[-2:] == [
        "distinct adapters / backbone only: 0.500",
        "backbone only / plain transformers: 3.000",
    ]


def test_an_unknown_method_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        mixed.main(["--method", "magic"])
    assert stopped.value.code == 2
    assert "unknown method magic" in capsys.readouterr().err
