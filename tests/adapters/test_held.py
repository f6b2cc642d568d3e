import pytest
import torch

from adapters.held import Held, Shelf, quote
from adapters.methods.fold import fold
from tests.adapters import builders


def held(part: str = "seq_bn", seed: int = 0) -> Held:
    return Held(builders.package("bert", [builders.PARTS[part]], seed=seed), torch.float32)


@pytest.mark.parametrize("part", list(builders.PARTS))
def test_a_package_comes_back_to_the_bit(part):
    package = builders.package(builders.home(builders.PARTS[part]), [builders.PARTS[part]])
    back = Held(package, torch.float32).package()
    assert back.manifest == package.manifest
    assert list(back.tensors) == list(package.tensors)
    assert all(torch.equal(tensor, package.tensors[name]) for name, tensor in back.tensors.items())
    assert all(tensor.data_ptr() != package.tensors[name].data_ptr() for name, tensor in back.tensors.items())


def test_its_state_names_every_tensor_and_restores_another_one():
    one, other = held("loreft", 1), held("loreft", 2)
    other.load_state_dict(one.state_dict())
    before, after = one.package().tensors, other.package().tensors
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_fixed_tensors_are_no_parameters():
    names = {name for name, _ in held("loreft").named_parameters()}
    assert not any("base" in name for name in names)
    assert any("original" in name for name in names)


def test_only_the_free_part_of_an_orthogonal_map_has_any_effect():
    one = held("loreft")
    before = one.package().tensors
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if "original" in name:
                parameter.mul_(0.97)
    after = one.package().tensors
    name = next(name for name in before if name.endswith(".original"))
    assert torch.equal(after[name].tril(), before[name].tril())
    assert torch.allclose(after[name].triu(1), before[name].triu(1) * 0.97)


def test_a_frozen_package_is_folded_once_and_again_when_a_tensor_changes():
    backbone, one = builders.backbone("bert"), held()
    one.freeze(frozen=True)
    first = one.folded(backbone)
    assert one.folded(backbone) is first
    assert torch.equal(first.flat, fold(one.package(), backbone.profile, torch.float32).flat)
    one.load_state_dict(held(seed=5).state_dict())
    assert torch.equal(one.folded(backbone).flat, fold(held(seed=5).package(), backbone.profile, torch.float32).flat)


def test_what_trains_is_never_kept_as_optimizers_may_change_it_unseen():
    backbone, one = builders.backbone("bert"), held()
    one.freeze(frozen=True)
    kept = one.folded(backbone)
    one.freeze(frozen=False)
    torch.autograd.backward(one.folded(backbone).flat.square().sum())
    with torch.no_grad():
        trained = one.folded(backbone).flat
    torch.optim.AdamW(one.parameters(), lr=0.1, fused=True).step()
    with torch.no_grad():
        assert not torch.equal(one.folded(backbone).flat, trained)
    one.freeze(frozen=True)
    assert not torch.equal(one.folded(backbone).flat, kept.flat)


def test_freezing_drops_gradients_that_would_still_move_it():
    one = held()
    torch.autograd.backward(one.folded(builders.backbone("bert")).flat.sum())
    one.freeze(frozen=True)
    assert all(parameter.grad is None for parameter in one.parameters())
    assert not one.trains


def test_what_was_loaded_and_folded_under_inference_mode_can_train_later():
    backbone = builders.backbone("bert")
    with torch.inference_mode():
        below, above = held("loreft"), held("lora_qv")
        below.freeze(frozen=True)
        below.folded(backbone)
    mixed = torch.cat([below.folded(backbone).flat, above.folded(backbone).flat]).square().sum()
    torch.autograd.backward(mixed)
    assert all(parameter.grad is not None for parameter in above.parameters())


def test_a_shelf_takes_any_name_and_tells_what_there_is():
    shelf = Shelf("adapter")
    for name in ("train", "a.b", "a%2Eb", "sentiment/sst-2@ukp", "a,b"):
        shelf.put(name, held())
    assert len(list(shelf.parameters())) == 5 * len(list(held().parameters()))
    assert list(shelf) == ["train", "a.b", "a%2Eb", "sentiment/sst-2@ukp", "a,b"]
    with pytest.raises(ValueError, match="already"):
        shelf.put("train", held())
    other = held()
    shelf.put("train", other, replace=True)
    assert shelf["train"] is other
    del shelf["a.b"]
    assert "a.b" not in shelf
    assert len(shelf) == 4
    for missing in (lambda: shelf["x"], lambda: shelf.__delitem__("x")):
        with pytest.raises(ValueError, match="no adapter 'x'; there are: train, "):
            missing()


def test_quoted_names_have_no_dots_and_stay_different():
    names = ["a.b", "a%2Eb", "a%b", "ab", "a..b"]
    assert not any("." in quote(name) for name in names)
    assert len({quote(name) for name in names}) == len(names)
