import torch

from adapters.batch.rows import Row
from adapters.batch.segments import layout_of
from adapters.batch.stacks import rows_in
from adapters.kernels.runs import Runs
from tests.adapters import builders


def test_rows_of_segments():
    runs = Runs(((0, 5), (7, 9)), (), 9, torch.device("cpu"))
    assert list(rows_in(runs, layout_of([2, 3, 2, 2]))) == [(0, 0), (0, 1), (1, 3)]


def test_no_module_makes_a_bias_over_all_tokens_of_a_pass():
    model = builders.backbone("t5").model
    for module in (model.encoder.block[0].layer[0].SelfAttention, model.decoder.block[0].layer[1].EncDecAttention):
        assert module.compute_bias(5, 5, device=torch.device("cpu")).numel() == 1


def test_positions_begin_anew_with_every_row():
    backbone, seen = builders.backbone("bart"), []
    rows = [Row((), None, None, builders.ids(n, n), decoder_ids=builders.ids(n, n - 1)) for n in (2, 4)]
    paths = backbone.profile.geometry.architecture.positions
    hooks = [
        backbone.model.get_submodule(path).register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs["position_ids"].tolist()), with_kwargs=True
        )
        for path in paths
    ]
    try:
        backbone.run(rows, ["hidden_state"] * 2)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [[0, 1, 0, 1, 2, 3], [0, 0, 1, 2]]
