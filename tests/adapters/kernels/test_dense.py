import pytest
import torch

from adapters.kernels import dense as module
from adapters.kernels.dense import SMALLEST, FrozenMap, activated, dense

WIDE, NARROW = 384, 96


def tensors(tokens, **kind):
    made = torch.Generator().manual_seed(0)
    shapes = ((tokens, WIDE), (NARROW, WIDE), (NARROW,))
    return [torch.randn(shape, generator=made).to(**kind) * 0.1 for shape in shapes]


@pytest.mark.parametrize("tokens", [1, 3, SMALLEST // (WIDE * NARROW), 200])
@pytest.mark.parametrize("biased", [True, False])
def test_is_the_linear_map_on_either_side_of_the_threshold(tokens, biased):
    x, weight, bias = tensors(tokens)
    held = bias if biased else None
    exact = x.double() @ weight.double().T + (bias.double() if biased else 0)
    with torch.inference_mode():
        assert torch.allclose(dense(x, weight, held).double(), exact, atol=1e-5)
        assert torch.allclose(dense(x.unsqueeze(0), weight, held)[0].double(), exact, atol=1e-5)


def test_inputs_that_are_views_are_read_right():
    x, weight, bias = tensors(400)
    with torch.inference_mode():
        for view in (x[::2], x[7:211], x.t().contiguous().t()):
            assert torch.allclose(dense(view, weight, bias), view @ weight.T + bias, atol=1e-5)


def test_a_nan_token_changes_no_other_token_by_a_bit():
    x, weight, bias = tensors(200)
    with torch.inference_mode():
        before = dense(x, weight, bias)
        x[70:90] = float("nan")
        after = dense(x, weight, bias)
    assert torch.equal(torch.cat([before[:70], before[90:]]), torch.cat([after[:70], after[90:]]))
    assert torch.isnan(after[70:90]).all()


def test_training_keeps_its_gradients_and_other_dtypes_torch_s_own_kernel(monkeypatch):
    x, weight, bias = tensors(200)
    x.requires_grad_()
    dense(x, weight, bias).sum().backward()
    assert torch.allclose(x.grad, weight.sum(0).expand_as(x), atol=1e-5)
    monkeypatch.setattr(module, "functional", None)  # so that a call of torch's own would fail
    with torch.inference_mode():
        dense(*tensors(200))
        with pytest.raises(AttributeError):
            dense(*tensors(200, dtype=torch.float64))


@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_new", "relu", "silu", "tanh", "sigmoid", "quick_gelu"])
@pytest.mark.parametrize("tokens", [2, 200])
def test_a_frozen_map_is_the_map_and_the_activation_behind_it(tokens, activation):
    x, weight, bias = tensors(tokens)
    exact = activated(x.double() @ weight.double().T + bias.double(), activation)
    with torch.inference_mode():
        assert torch.allclose(FrozenMap(weight, bias)(x, activation).double(), exact, atol=1e-5)
        assert torch.allclose(FrozenMap(weight, None)(x).double(), x.double() @ weight.double().T, atol=1e-5)


def test_a_frozen_map_in_bfloat16_rounds_once():
    x, weight, bias = tensors(200, dtype=torch.bfloat16)
    exact = activated(x.double() @ weight.double().T + bias.double(), "gelu")
    with torch.inference_mode():
        assert torch.allclose(FrozenMap(weight, bias)(x, "gelu").double(), exact, rtol=2**-7, atol=1e-3)


def test_a_frozen_map_has_gradients_of_its_inputs():
    x, weight, bias = tensors(200)
    x.requires_grad_()
    FrozenMap(weight, bias)(x, "relu").sum().backward()
    alive = (x.detach() @ weight.T + bias > 0).float()
    assert torch.allclose(x.grad, alive @ weight, atol=1e-5)


def test_a_frozen_map_is_laid_out_once(monkeypatch):
    calls, (x, weight, bias) = [], tensors(200)
    reorder = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda *a: calls.append(1) or reorder(*a))
    held = FrozenMap(weight, bias)
    with torch.inference_mode():
        assert torch.equal(held(x), held(x))
    assert calls == [1]
