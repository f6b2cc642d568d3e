import json

import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import Misfit, UnsafeFile
from adapters.formats import native, peft
from adapters.formats.check import check
from adapters.formats.labels import UNNAMED
from tests.adapters.formats.folders import (
    CLASSIFIER,
    WIDE,
    H,
    attention,
    peft_config,
    peft_folder,
    peft_lora_keys,
    profile,
)

QV = attention("query", "value")
FEATURE = {"task_type": "FEATURE_EXTRACTION", "modules_to_save": None}
IA3_KEYS = {
    **{f"base_model.model.{path}.ia3_l": (H, 1) for path in attention("key")},
    **{f"base_model.model.bert.encoder.layer.{i}.output.dense.ia3_l": (1, WIDE) for i in range(2)},
    **CLASSIFIER,
}
IA3 = peft_config(
    peft_type="IA3",
    target_modules=["key", r"2.output.dense", "layer.0.output.dense", "layer.1.output.dense"],
    feedforward_modules=["output.dense"],
)


def basic(folder, keys=None, **changes):
    return peft_folder(folder, peft_config(**changes), peft_lora_keys(QV) | CLASSIFIER if keys is None else keys)


def sites(package):
    return package.manifest.parts[0].config["sites"]


def reasons(folder, where=None):
    with pytest.raises(Misfit) as caught:
        peft.read(folder, where or profile())
    return caught.value.reasons


def assert_same(a, b):
    assert a.manifest == b.manifest
    assert set(a.tensors) == set(b.tensors)
    assert all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items())


def test_lora_with_its_head_reads_fits_and_round_trips(tmp_path):
    package = peft.read(basic(tmp_path / "in"), profile())
    assert sites(package)["1/attn_v"] == {"rank": 2, "scaling": 8.0, "bias": False}
    assert (package.manifest.head.pooling, package.manifest.head.layers) == ("pooler", 1)
    check(package, profile())
    assert_same(package, native.read(native.write(package)))
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    assert (
        json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == package.manifest.source["adapter_config"]
    )


def test_ranks_and_alphas_by_pattern_and_rslora(tmp_path):
    keys = peft_lora_keys(QV[:1], rank=4) | peft_lora_keys(QV[1:], rank=2) | CLASSIFIER
    folder = basic(
        tmp_path, keys, rank_pattern={"layer.0.attention.self.query": 4}, alpha_pattern={"value": 3}, use_rslora=True
    )
    package = peft.read(folder, profile())
    assert sites(package)["0/attn_q"] == {"rank": 4, "scaling": 8.0, "bias": False}
    assert sites(package)["1/attn_q"]["scaling"] == pytest.approx(16 / 2**0.5)
    assert sites(package)["0/attn_v"]["scaling"] == pytest.approx(3 / 2**0.5)


def test_ia3_scales_outputs_and_the_inputs_of_feed_forward_modules(tmp_path):
    package = peft.read(peft_folder(tmp_path / "in", IA3, IA3_KEYS), profile())
    assert sites(package)["0/attn_k"] == {"at": "output", "scaling": 1.0}
    assert sites(package)["1/ffn_out"] == {"at": "input", "scaling": 1.0}
    assert package.tensors["1/ffn_out/scale"].shape == (WIDE,)
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))


def test_ia3_can_scale_the_pooler_on_either_side(tmp_path):
    for side, shape in (("output", (H, 1)), ("input", (1, H))):
        config = peft_config(
            peft_type="IA3",
            target_modules=["pooler.dense"],
            feedforward_modules=["pooler.dense"] if side == "input" else [],
        )
        keys = {"base_model.model.bert.pooler.dense.ia3_l": shape, **CLASSIFIER}
        package = peft.read(peft_folder(tmp_path / side, config, keys), profile())
        assert sites(package) == {"model/pooler": {"at": side, "scaling": 1.0}}
        check(package, profile())


def test_a_vector_of_the_wrong_side_is_refused(tmp_path):
    folder = peft_folder(tmp_path, IA3 | {"feedforward_modules": []}, IA3_KEYS)
    assert any("feedforward_modules contradicts" in reason for reason in reasons(folder))


def test_labels_and_problem_type_come_from_the_operator(tmp_path):
    folder = basic(tmp_path)
    silent = peft.read(folder, profile())
    assert silent.manifest.head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert silent.manifest.source["warnings"] == [UNNAMED]
    told = peft.read(folder, profile(), labels=["a", "b", "c"], problem_type="multi_label")
    assert told.manifest.head.labels == ("a", "b", "c")
    assert told.manifest.head.problem_type == "multi_label"
    assert told.manifest.source["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "keys", "pooling"),
    [
        ({"task_type": "TOKEN_CLS"}, CLASSIFIER, "tokens"),
        ({"task_type": None, "auto_mapping": {"base_model_class": "BertForTokenClassification"}}, CLASSIFIER, "tokens"),
        (
            {"modules_to_save": ["pooler", "classifier"]},
            CLASSIFIER
            | {"base_model.model.bert.pooler.dense.weight": (H, H), "base_model.model.bert.pooler.dense.bias": (H,)},
            "first_token",
        ),
    ],
)
def test_the_head_is_the_class_s(tmp_path, changes, keys, pooling):
    package = peft.read(basic(tmp_path / "in", peft_lora_keys(QV) | keys, **changes), profile())
    assert package.manifest.head.pooling == pooling
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))


def test_roberta_and_distilbert_heads_and_paths(tmp_path):
    keys = peft_lora_keys(attention("query", "value", prefix="roberta."))
    keys |= {
        f"base_model.model.classifier.{m}.{k}": ((H, H) if m == "dense" else (3, H))
        if k == "weight"
        else ((H,) if m == "dense" else (3,))
        for m in ("dense", "out_proj")
        for k in ("weight", "bias")
    }
    package = peft.read(basic(tmp_path / "r", keys), profile("roberta", has_pooler=False))
    assert (package.manifest.head.layers, package.manifest.head.activation) == (2, "tanh")
    keys = peft_lora_keys(
        [f"distilbert.transformer.layer.{i}.attention.{m}" for i in range(2) for m in ("q_lin", "v_lin")]
    )
    keys |= CLASSIFIER | {
        "base_model.model.pre_classifier.weight": (H, H),
        "base_model.model.pre_classifier.bias": (H,),
    }
    folder = basic(tmp_path / "d", keys, target_modules=["q_lin", "v_lin"])
    package = peft.read(folder, profile("distilbert", has_pooler=False))
    assert package.manifest.head.activation == "relu"
    check(package, profile("distilbert", has_pooler=False))


def test_a_head_without_the_pooler_it_needs_is_refused(tmp_path):
    (reason,) = reasons(basic(tmp_path), profile(has_pooler=False))
    assert "pooler" in reason


def test_features_have_no_head_and_no_prefix(tmp_path):
    keys = peft_lora_keys(attention("query", "value", prefix=""))
    package = peft.read(basic(tmp_path / "in", keys, **FEATURE), profile())
    assert package.manifest.head is None
    peft.write(package, tmp_path / "out")
    assert set(load_file(tmp_path / "out" / "adapter_model.safetensors")) == set(keys)


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


def test_a_lora_bias_is_kept(tmp_path):
    keys = peft_lora_keys(QV) | CLASSIFIER | {f"base_model.model.{path}.lora_B.bias": (H,) for path in QV}
    package = peft.read(basic(tmp_path / "in", keys, lora_bias=True), profile())
    assert sites(package)["0/attn_q"]["bias"]
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    assert any("lora_bias" in reason for reason in reasons(basic(tmp_path / "no", keys)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"use_dora": True}, "use_dora is True, but the checkpoint says otherwise"),
        ({"bias": "all"}, "bias='all'"),
        ({"layer_replication": [[0, 2]]}, "layer replication"),
        ({"trainable_token_indices": [1]}, "trainable tokens"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"task_type": "QUESTION_ANS"}, "QUESTION_ANS"),
        ({"task_type": "CAUSAL_LM", "kasa_config": {"x": 1}}, "KaSA"),
        ({"task_type": None}, "head"),
        ({"task_type": "FEATURE_EXTRACTION"}, "classifier.bias belongs to no part"),
        ({"r": 4}, "rank 2, but adapter_config.json says 4"),
        ({"lora_alpha": "x"}, "lora_alpha"),
        ({"target_modules": ["query"]}, "target_modules does not name it"),
        ({"target_modules": ["query", "value", "key"]}, "lacks bert.encoder.layer.0.attention.self.key"),
        ({"target_modules": "("}, "module pattern"),
        ({"peft_type": ["LORA"]}, "PEFT's method ['LORA'] is not served"),
        ({"task_type": {}}, "the task {} is not served"),
        ({"rank_pattern": "x"}, "rank_pattern must be an object, not 'x'"),
        ({"alpha_pattern": [1]}, "alpha_pattern must be an object, not [1]"),
        ({"task_type": None, "auto_mapping": ["x"]}, "auto_mapping must be an object"),
        ({"use_rslora": "no"}, "use_rslora must be true or false, not 'no'"),
        ({"peft_type": "IA3", "feedforward_modules": 5}, "feedforward_modules must be a list or a text, not 5"),
    ],
)
def test_what_is_not_served_or_contradicts_the_tensors_is_refused(tmp_path, changes, message):
    assert any(message in reason for reason in reasons(basic(tmp_path, **changes)))


def test_dora_is_read_with_its_flavour_and_round_trips(tmp_path):
    keys = peft_lora_keys(QV) | CLASSIFIER | {f"base_model.model.{path}.lora_magnitude_vector": (H,) for path in QV}
    package = peft.read(basic(tmp_path / "in", keys, use_dora=True), profile())
    assert sites(package)["1/attn_v"]["dora"] == "peft"
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    assert any("use_dora is False" in reason for reason in reasons(basic(tmp_path / "no", keys)))


def test_a_map_that_is_several_sites_is_refused(tmp_path):
    keys = peft_lora_keys([f"layers.{i}.attn.Wqkv" for i in range(2)], out=3 * H)
    folder = peft_folder(tmp_path, peft_config(task_type=None, target_modules=["Wqkv"], modules_to_save=None), keys)
    assert all("Wqkv is not one that is served" in reason for reason in reasons(folder, profile("modernbert")))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base_model.model.bert.encoder.layer.0.attention.self.query.lora_magnitude", "not served yet"),
        ("base_model.model.bert.embeddings.word_embeddings.lora_embedding_A", "not served yet"),
        ("base_model.model.bert.encoder.layer.0.attention.self.query.base_layer.bias", "not served yet"),
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
    with pytest.raises(Misfit, match="gpt2"):
        peft.read(tmp_path, profile("gpt2"))


def test_a_pickle_is_refused(tmp_path):
    folder = basic(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UnsafeFile, match="chorus convert"):
        peft.read(folder, profile())


def test_a_setting_that_nobody_knows_is_refused_unless_it_is_off(tmp_path):
    (reason,) = reasons(basic(tmp_path / "on", new_trick={"a": 1}))
    assert "'new_trick' is not known" in reason
    assert peft.read(basic(tmp_path / "off", new_trick=False), profile())
