from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.manifest import PartSpec
from adapters.weights import Package
from tests.adapters import builders
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
from tests.adapters.formats.peft.reading import QV, assert_same, reasons
from tests.adapters.formats.peft.test_prompts import unlabelled

ROOT = "base_model.model."
LAYER = f"{ROOT}bert.encoder.layer.0."
LORA_BIASES = {f"{ROOT}{path}.base_layer.bias": (H,) for path in QV}
OTHERS = {
    f"{LAYER}output.LayerNorm.bias": (H,),
    f"{LAYER}intermediate.dense.bias": (WIDE,),
    f"{ROOT}bert.pooler.dense.bias": (H,),
}
COPIES = {f"{ROOT}classifier.original_module.bias": (3,), f"{ROOT}classifier.modules_to_save.bias": (3,)}
KEYS = peft_lora_keys(QV) | CLASSIFIER


def both_ways(package, tmp_path):
    check(package, profile())
    peft.write(package, tmp_path / "same")
    assert_same(package, peft.read(tmp_path / "same", profile()))
    peft.write(unlabelled(package), tmp_path / "new")
    assert peft.read(tmp_path / "new", profile()).manifest.parts == package.manifest.parts


def parts(package):
    return {part.method: part.config.get("sites", part.config) for part in package.manifest.parts}


def test_biases_of_the_adapted_maps_belong_to_the_lora(tmp_path):
    package = peft.read(peft_folder(tmp_path / "in", peft_config(bias="lora_only"), KEYS | LORA_BIASES), profile())
    assert parts(package)["lora"]["0/attn_q"]["base_bias"] is True
    assert package.tensors["0/attn_q/base_bias"].shape == (H,)
    both_ways(package, tmp_path)


def test_all_other_biases_are_parts_beside_it(tmp_path):
    folder = peft_folder(tmp_path / "in", peft_config(bias="all"), KEYS | LORA_BIASES | OTHERS | COPIES)
    held = load_file(folder / "adapter_model.safetensors")
    held[f"{ROOT}classifier.modules_to_save.bias"] = held[f"{ROOT}classifier.bias"].clone()
    save_file(held, folder / "adapter_model.safetensors")
    package = peft.read(folder, profile())
    found = parts(package)
    assert found["norms"] == {"0/ffn_norm": {"bias": True}}
    assert found["biases"] == {"0/ffn_in": {}, "model/pooler": {}}
    both_ways(package, tmp_path)


@pytest.mark.parametrize("bias", ["c3a_only", "all"])
def test_biases_of_maps_that_another_tuner_adapts_are_parts_beside_it(tmp_path, bias):
    said = peft_config(peft_type="C3A", r=None, lora_alpha=None, block_size=4, bias=bias)
    kernels = {f"{ROOT}{path}.c3a_kernel": (H // 4, H // 4, 4) for path in QV}
    others = OTHERS if bias == "all" else {}
    package = peft.read(peft_folder(tmp_path / "in", said, kernels | LORA_BIASES | CLASSIFIER | others), profile())
    found = parts(package)
    assert set(found["c3a"]) == {site for site in found["biases"] if "attn" in site}
    assert ("norms" in found) == (bias == "all")
    check(package, profile())
    peft.write(package, tmp_path / "same")
    assert_same(package, peft.read(tmp_path / "same", profile()))
    keys = load_file(tmp_path / "same" / "adapter_model.safetensors").keys()
    assert keys == (kernels | LORA_BIASES | CLASSIFIER | others).keys()


def test_a_copy_of_the_head_that_differs_from_it_is_refused(tmp_path):
    folder = peft_folder(tmp_path, peft_config(bias="all"), KEYS | LORA_BIASES | COPIES)
    assert any("differs from the classifier" in one for one in reasons(folder))


def test_a_head_of_several_maps_has_the_adapters_name_in_its_copies(tmp_path):
    paths = attention("query", "value", prefix="roberta.")
    head = {
        f"{ROOT}classifier.{m}.{k}": (H,) * (2 - (k == "bias"))
        for m in ("dense", "out_proj")
        for k in ("weight", "bias")
    }
    copies = {f"{ROOT}classifier.modules_to_save.mine.{m}.bias": (H,) for m in ("dense", "out_proj")}
    folder = peft_folder(tmp_path, peft_config(bias="all"), peft_lora_keys(paths) | head | copies)
    held = load_file(folder / "adapter_model.safetensors")
    for key in copies:
        held[key] = held[key.replace("modules_to_save.mine.", "")].clone()
    save_file(held, folder / "adapter_model.safetensors")
    assert peft.read(folder, profile("roberta")).manifest.head.layers == 2


def test_norms_and_the_table_of_words_can_be_saved_whole(tmp_path):
    config = peft_config(modules_to_save=["classifier", "output.LayerNorm", "word_embeddings"])
    norms = {f"{LAYER}output.LayerNorm.{name}": (H,) for name in ("weight", "bias")}
    table = {f"{ROOT}bert.embeddings.word_embeddings.weight": (20, H)}
    package = peft.read(peft_folder(tmp_path / "in", config, KEYS | norms | table), profile())
    assert parts(package)["norms"] == {"0/ffn_norm": {"weight": True, "bias": True}}
    assert parts(package)["word_rows"] == {"tokens": None}
    both_ways(package, tmp_path)


def test_tables_of_positions_and_segments_can_be_saved_whole(tmp_path):
    config = peft_config(modules_to_save=["classifier", "position_embeddings", "token_type_embeddings"])
    stem = f"{ROOT}bert.embeddings."
    tables = {f"{stem}position_embeddings.weight": (32, H), f"{stem}token_type_embeddings.weight": (2, H)}
    package = peft.read(peft_folder(tmp_path / "in", config, KEYS | tables), profile())
    assert parts(package)["tables"] == {"model/positions": {}, "model/segments": {}}
    both_ways(package, tmp_path)
    folder = peft_folder(tmp_path / "alone", peft_config(bias="all"), KEYS | tables)
    assert any("position_embeddings.weight belongs to no head" in one for one in reasons(folder))


WIDTH = builders.HIDDEN
BIAS_OF_T5 = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
# Family -> a map that is adapted, the width of what it gives, and what is saved whole.
DISTANCES: dict[str, tuple[str, int, dict[str, tuple[int, ...]]]] = {
    "deberta-v2": (
        "encoder.layer.0.attention.self.query_proj",
        WIDTH,
        {
            "encoder.rel_embeddings.weight": (16, WIDTH),
            "encoder.LayerNorm.weight": (WIDTH,),
            "encoder.LayerNorm.bias": (WIDTH,),
        },
    ),
    "t5": (
        "encoder.block.0.layer.0.SelfAttention.q",
        48,
        {f"encoder.{BIAS_OF_T5}": (8, 4), f"decoder.{BIAS_OF_T5}": (8, 4)},
    ),
}


@pytest.mark.parametrize("family", DISTANCES)
def test_what_is_looked_up_by_distance_can_be_saved_whole(tmp_path, family):
    path, out, own = DISTANCES[family]
    names = ["rel_embeddings", "encoder.LayerNorm", "relative_attention_bias"]
    keys = {f"{ROOT}{path}.lora_A.weight": (2, WIDTH), f"{ROOT}{path}.lora_B.weight": (out, 2)}
    wide = {f"{ROOT}{name}": shape for name, shape in own.items()}
    config = peft_config(task_type="FEATURE_EXTRACTION", modules_to_save=names, target_modules=[path])
    held = builders.profile(family)
    package = peft.read(peft_folder(tmp_path / "in", config, keys | wide), held)
    found = parts(package)
    if family == "t5":
        assert found["tables"] == {"model/distances": {}, "model/decoder_distances": {}}
    else:
        assert found["tables"] == {"model/distances": {}}
        assert found["norms"] == {"model/distance_norm": {"weight": True, "bias": True}}
    check(package, held)
    peft.write(package, tmp_path / "same")
    assert_same(package, peft.read(tmp_path / "same", held))


def test_parameters_that_the_configuration_does_not_explain_are_refused(tmp_path):
    for number, changes in enumerate(({}, {"bias": "lora_only"})):
        folder = peft_folder(tmp_path / str(number), peft_config(**changes), KEYS | OTHERS)
        assert any("output.LayerNorm.bias belongs to no head" in one for one in reasons(folder))
    folder = peft_folder(tmp_path / "base", peft_config(), KEYS | LORA_BIASES)
    assert any("bias is 'none'" in one for one in reasons(folder))


def test_other_parts_beside_a_tuner_are_not_written(tmp_path):
    package = peft.read(peft_folder(tmp_path / "in", peft_config(), KEYS), profile())
    more = (*package.manifest.parts, PartSpec("reft", {}))
    with pytest.raises(Misfit, match="no reft beside it"):
        peft.write(Package(replace(package.manifest, parts=more), package.tensors), tmp_path / "out")


def test_a_name_of_a_module_to_save_may_be_the_end_of_a_modules_own(tmp_path):
    config = peft_config(modules_to_save=["classifier", "Norm"])
    norm = {f"{LAYER}output.LayerNorm.{name}": (H,) for name in ("weight", "bias")}
    package = peft.read(peft_folder(tmp_path / "in", config, KEYS | norm), profile())
    assert parts(package)["norms"] == {"0/ffn_norm": {"weight": True, "bias": True}}


def test_linear_maps_of_the_backbone_can_be_saved_whole(tmp_path):
    config = peft_config(modules_to_save=["classifier", "key", "output.dense"])
    weights = {f"{LAYER}attention.self.key": (H, H), f"{LAYER}output.dense": (H, WIDE)}
    maps = {
        f"{path}.{name}": shape[: 2 - (name == "bias")]
        for path, shape in weights.items()
        for name in ("weight", "bias")
    }
    package = peft.read(peft_folder(tmp_path / "in", config, KEYS | maps), profile())
    assert parts(package)["maps"] == {"0/attn_k": {"bias": True}, "0/ffn_out": {"bias": True}}
    both_ways(package, tmp_path)
    bare = peft_folder(tmp_path / "bare", config, KEYS | {key: maps[key] for key in maps if key.endswith("bias")})
    assert any("lacks bert.encoder.layer.0.attention.self.key.weight" in one for one in reasons(bare))
    alone = peft_folder(tmp_path / "alone", peft_config(), KEYS | maps)
    assert any("attention.self.key.weight belongs to no head" in one for one in reasons(alone))


def test_the_pooler_is_the_heads_where_the_class_counts_it_there_and_a_map_elsewhere(tmp_path):
    pooler = {f"{ROOT}bert.pooler.dense.weight": (H, H), f"{ROOT}bert.pooler.dense.bias": (H,)}
    config = peft_config(modules_to_save=["classifier", "pooler"])
    package = peft.read(peft_folder(tmp_path / "head", config, KEYS | pooler), profile())
    assert (package.manifest.head.layers, list(parts(package))) == (2, ["lora"])
    config = peft_config(modules_to_save=["pooler"], task_type="FEATURE_EXTRACTION")
    lora = {key.replace("bert.", ""): shape for key, shape in peft_lora_keys(QV).items()}
    bare = {key.replace("bert.", ""): shape for key, shape in pooler.items()}
    package = peft.read(peft_folder(tmp_path / "map", config, lora | bare), profile())
    assert parts(package)["maps"] == {"model/pooler": {"bias": True}}
    both_ways(package, tmp_path)


def test_the_bias_of_a_convolution_can_be_saved_but_not_the_convolution(tmp_path):
    where = profile("vit")
    path = "vit.embeddings.patch_embeddings.projection"
    lora = peft_lora_keys([f"vit.layers.{layer}.attention.q_proj" for layer in range(2)])
    bias = {f"{ROOT}{path}.bias": (H,)}
    said = {"target_modules": ["q_proj"], "task_type": None, "modules_to_save": None}
    package = peft.read(peft_folder(tmp_path / "in", peft_config(**said, bias="all"), lora | bias), where)
    assert parts(package)["biases"] == {"model/patches": {}}
    peft.write(unlabelled(package), tmp_path / "new")
    assert peft.read(tmp_path / "new", where).manifest.parts == package.manifest.parts
    whole = bias | {f"{ROOT}{path}.weight": (H, 3, 4, 4)}
    said["modules_to_save"] = ["projection"]
    folder = peft_folder(tmp_path / "w", peft_config(**said), lora | whole)
    found = reasons(folder, where)
    assert [reason.split(" ")[0] for reason in found] == [f"{path}.bias", f"{path}.weight"]
    assert all("is a part of the backbone that no adapter can have" in reason for reason in found)
