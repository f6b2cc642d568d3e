import pytest

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from tests.adapters.formats.folders import CLASSIFIER, WIDE, H, peft_config, peft_folder, peft_lora_keys, profile
from tests.adapters.formats.peft.reading import QV, assert_same, basic, reasons, sites


def test_the_pooler_and_every_dense_layer_can_be_adapted(tmp_path):
    paths = [f"bert.encoder.layer.{i}.attention.output.dense" for i in range(2)]
    keys = peft_lora_keys([*paths, "bert.pooler.dense"])
    keys |= peft_lora_keys([f"bert.encoder.layer.{i}.intermediate.dense" for i in range(2)], out=WIDE)
    keys |= peft_lora_keys([f"bert.encoder.layer.{i}.output.dense" for i in range(2)], wide=WIDE) | CLASSIFIER
    package = peft.read(basic(tmp_path / "1", keys, target_modules=["dense"]), profile())
    assert "model/pooler" in sites(package)
    check(package, profile())
    without = {key: shape for key, shape in keys.items() if "pooler" not in key}
    assert "model/pooler" not in sites(peft.read(basic(tmp_path / "2", without, target_modules=["dense"]), profile()))


def test_a_map_that_is_several_sites_is_adapted_as_a_whole(tmp_path):
    keys = peft_lora_keys([f"layers.{i}.attn.Wqkv" for i in range(2)], out=3 * H)
    config = peft_config(task_type="FEATURE_EXTRACTION", target_modules=["Wqkv"], modules_to_save=None)
    package = peft.read(peft_folder(tmp_path / "in", config, keys), profile("modernbert", has_pooler=False))
    assert set(sites(package)) == {"0/attn_qkv", "1/attn_qkv"}
    check(package, profile("modernbert", has_pooler=False))
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile("modernbert", has_pooler=False)))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base_model.model.bert.encoder.layer.0.attention.self.query.lora_magnitude", "not served yet"),
        ("base_model.model.bert.embeddings.word_embeddings.lora_embedding_C", "not served yet"),
        ("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.more.weight", "not served yet"),
        ("base_model.model.bert.encoder.layer.7.attention.self.query.lora_A.weight", "does not have it"),
        ("base_model.model.score.weight", "belongs to no head"),
        ("bert.encoder.layer.0.attention.self.query.lora_A.weight", "no key of PEFT"),
    ],
)
def test_a_tensor_that_is_not_understood_is_named(tmp_path, key, message):
    keys = peft_lora_keys(QV) | CLASSIFIER | {key: (2, H)}
    assert any(
        key.removeprefix("base_model.model.").removesuffix(".lora_A.weight") in r and message in r
        for r in reasons(basic(tmp_path, keys))
    )


def test_half_a_lora_and_no_lora_at_all_are_refused(tmp_path):
    keys = peft_lora_keys(QV) | CLASSIFIER
    del keys[f"base_model.model.{QV[0]}.lora_B.weight"]
    assert any("only one of" in reason for reason in reasons(basic(tmp_path / "half", keys)))
    assert any("no module" in reason for reason in reasons(basic(tmp_path / "none", CLASSIFIER, target_modules=[])))


def test_keys_of_another_family_are_refused(tmp_path):
    assert any("does not have it" in reason for reason in reasons(basic(tmp_path), profile("roberta")))
    with pytest.raises(Misfit, match="gptj"):
        peft.read(tmp_path, profile("gptj"))
