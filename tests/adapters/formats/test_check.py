from dataclasses import replace

import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.adapterhub import fusion
from adapters.formats.check import check
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec
from adapters.requires import Requires
from adapters.weights import Package
from tests.adapters.formats import folders
from tests.adapters.formats.adapterhub import by_hand
from tests.adapters.formats.folders import H, profile

REQUIRES = Requires("bert", H, 2, 2)


@pytest.fixture
def package(tmp_path):
    return adapterhub.read(folders.seq_bn_folder(tmp_path), profile())


def reasons(held, where=None):
    with pytest.raises(Misfit) as caught:
        check(held, where or profile())
    return caught.value.reasons


def changed(held, **tensors):
    return Package(held.manifest, dict(held.tensors) | tensors)


def embedding(rows=3, width=H, tokenizer=None):
    tensors = {"embedding/matrix/weight": torch.zeros(rows, width)}
    if tokenizer is not None:
        tensors["embedding/tokenizer/bytes"] = torch.frombuffer(bytearray(tokenizer), dtype=torch.uint8)
    spec = EmbeddingSpec(rows, width, tokenizer is not None)
    return Package(Manifest("embedding", REQUIRES, embedding=spec), tensors)


def test_a_package_that_fits_passes(package):
    check(package, profile())
    check(embedding(tokenizer=folders.tokenizer_json()), profile())


@pytest.mark.parametrize(
    ("requires", "word"),
    [
        (Requires("roberta", H, 2, 2), "model type"),
        (Requires("bert", H, 3, 2), "layers"),
        (Requires("bert", H, 2, 4), "attention heads"),
        (Requires("bert", 2 * H, 2, 2), "hidden size"),
    ],
)
def test_another_backbone_is_named(package, requires, word):
    assert any(
        word in reason for reason in reasons(Package(replace(package.manifest, requires=requires), package.tensors))
    )


def test_missing_extra_and_misshapen_tensors_are_all_named(package):
    tensors = dict(package.tensors) | {"0/ffn_junction/gate.weight": torch.zeros(1, H), "head/1/bias": torch.zeros(4)}
    del tensors["1/ffn_junction/up.bias"]
    found = reasons(Package(package.manifest, tensors))
    assert len(found) == 3
    assert any("1/ffn_junction/up.bias is missing" in reason for reason in found)
    assert any("head/1/bias has the shape [4]; this backbone needs [3]" in reason for reason in found)
    assert any("0/ffn_junction/gate.weight belongs to no part" in reason for reason in found)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_name_their_tensor(package, value):
    broken = package.tensors["1/ffn_junction/up.weight"].clone()
    broken[3, 2] = value
    assert reasons(changed(package, **{"1/ffn_junction/up.weight": broken})) == (
        "tensor 1/ffn_junction/up.weight holds NaN or infinity",
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8, torch.bool])
def test_other_dtypes_are_refused(package, dtype):
    (reason,) = reasons(changed(package, **{"head/1/bias": torch.ones(3, dtype=dtype)}))
    assert "dtype" in reason


def test_half_precision_fits(package):
    check(Package(package.manifest, {name: t.to(torch.bfloat16) for name, t in package.tensors.items()}), profile())


def test_a_part_that_matches_no_module_is_refused():
    part = PartSpec("lora", {"sites": {}})
    assert any("no module" in reason for reason in reasons(Package(Manifest("adapter", REQUIRES, (part,)), {})))


def test_a_fusion_is_checked_as_an_adapter_is():
    members = {key: by_hand.fusion_config()[key] for key in fusion.SETTINGS}
    part = PartSpec("fusion", {"sites": {"1/ffn_junction": {}}, **members})
    names = {"query.weight": (H, H), "query.bias": (H,), "key.weight": (H, H), "key.bias": (H,), "value.weight": (H, H)}
    held = {f"1/ffn_junction/{name}": torch.zeros(shape) for name, shape in names.items()}
    check(Package(Manifest("fusion", REQUIRES, (part,), children=("a", "b")), held), profile())
    held["1/ffn_junction/key.bias"] = torch.full((H,), float("nan"))
    del held["1/ffn_junction/value.weight"]
    assert len(reasons(Package(Manifest("fusion", REQUIRES, (part,), children=("a", "b")), held))) == 2


def test_an_unknown_method_and_a_nan_come_in_one_error():
    part = PartSpec("oft", {})
    tensors = {"0/attn_q/x": torch.tensor([float("nan")])}
    found = reasons(Package(Manifest("adapter", REQUIRES, (part,)), tensors))
    assert len(found) == 2


def test_a_head_that_needs_an_absent_pooler_is_refused(tmp_path):
    folder = folders.adapterhub_folder(
        tmp_path, folders.seq_bn(), folders.seq_bn_keys(), head=folders.head_config(use_pooler=True)
    )
    held = adapterhub.read(folder, profile())
    check(held, profile())
    assert any("pooler" in reason for reason in reasons(held, profile(has_pooler=False)))


def test_an_embedding_of_another_width_or_with_ids_beyond_it_is_refused():
    assert any("wide" in reason for reason in reasons(embedding(width=H + 1)))
    (reason,) = reasons(embedding(rows=2, tokenizer=folders.tokenizer_json()))
    assert "up to 2" in reason


def test_a_manifest_that_misstates_its_tokenizer_is_refused():
    held = embedding(tokenizer=folders.tokenizer_json())
    manifest = replace(held.manifest, embedding=replace(held.manifest.embedding, tokenizer=False))
    assert any("tokenizer=False" in reason for reason in reasons(Package(manifest, held.tensors)))
    (reason,) = reasons(changed(held, **{"embedding/tokenizer/bytes": torch.ones(4)}))
    assert "dtype" in reason


def test_a_backbone_without_a_record_is_a_misfit(package):
    assert reasons(package, profile("gptj"))


@pytest.mark.parametrize("scaling", [10**400, 1e39, float("inf"), float("nan")])
def test_a_number_that_would_be_infinite_in_a_pass_is_named(package, scaling):
    (part,) = package.manifest.parts
    wrong = replace(package.manifest, parts=(replace(part, config={**part.config, "scaling": scaling}),))
    (reason,) = reasons(Package(wrong, package.tensors))
    assert reason.startswith("bottleneck: scaling must be a number, 'learned' or 'channel', not")
    lora = PartSpec("lora", {"sites": {"0/attn_q": {"rank": 2, "scaling": scaling}}})
    (reason,) = reasons(Package(replace(package.manifest, parts=(lora,), head=None), {}))
    assert reason.startswith("lora: sites.0/attn_q.scaling must be a number, not")


def test_a_language_head_of_one_layer_needs_the_width_of_the_states():
    spec = HeadSpec("masked_lm", 1, None, False, "tokens", (), "vocabulary", vocabulary=5, width=H - 2)
    held = Package(Manifest("head", REQUIRES, head=spec), {"head/0/weight": torch.zeros(5, H)})
    assert any("manifest.head.width must be 8, not 6" in reason for reason in reasons(held))
    check(Package(Manifest("head", REQUIRES, head=replace(spec, width=H)), held.tensors), profile())
