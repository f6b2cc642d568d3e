import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.errors import InvalidPackage, Misfit, UnsafeFile
from adapters.formats import adapterhub, native
from adapters.formats.check import check
from adapters.manifest import Provenance
from adapters.weights import Package
from tests.adapters.formats import folders
from tests.adapters.formats.folders import LAYERS, H, adapterhub_folder, lora, prefix, profile, seq_bn, tensors

POOLED = {
    "wte.weight": (3, H),
    "control_trans.0.weight": (5, H),
    "control_trans.0.bias": (5,),
    "control_trans.2.weight": (2 * LAYERS * H, 5),
    "control_trans.2.bias": (2 * LAYERS * H,),
}


def lora_keys(root="bert.", matrices=("query", "value"), rank=2):
    return {
        f"{root}encoder.layer.{i}.attention.self.{m}.loras.a.{p}": (rank, H) if p == "lora_A" else (H, rank)
        for i in range(LAYERS)
        for m in matrices
        for p in ("lora_A", "lora_B")
    }


def ia3_keys():
    return {
        f"bert.encoder.layer.{i}.attention.self.{m}.loras.a.lora_B": (H, 1)
        for i in range(LAYERS)
        for m in ("query", "value")
    }


def inverse_keys(root="bert."):
    shapes = {}
    for net in "FG":
        stem = f"{root}invertible_adapters.a.{net}"
        shapes |= {
            f"{stem}.0.weight": (2, 4),
            f"{stem}.0.bias": (2,),
            f"{stem}.2.weight": (4, 2),
            f"{stem}.2.bias": (4,),
        }
    return shapes


def prefix_keys(root="bert."):
    return {f"{root}prefix_tuning.prefix_tunings.a.self_prefix.{name}": shape for name, shape in POOLED.items()}


PROMPT = {"architecture": "prompt_tuning", "prompt_length": 4, "combine": "prefix"}
PROMPT_KEYS = {"bert.prompt_tuning.prompt_tunings.a.prompt_embedding.weight": (4, H)}
CASES = {
    "bottleneck": (seq_bn(), folders.seq_bn_keys()),
    "bottleneck and invertible": (seq_bn(inv_adapter="nice"), folders.seq_bn_keys() | inverse_keys()),
    "lora": (lora(), lora_keys()),
    "ia3": (lora(composition_mode="scale", r=1, alpha=2), ia3_keys()),
    "prefix": (prefix(), prefix_keys()),
    "flat prefix": (
        prefix(flat=True),
        {"bert.prefix_tuning.prefix_tunings.a.self_prefix.control_trans": (3 * 2 * LAYERS * H,)},
    ),
    "prompt": (PROMPT, PROMPT_KEYS),
    "union": ({"architecture": "union", "configs": [PROMPT, lora()]}, PROMPT_KEYS | lora_keys()),
}


def assert_same(a, b):
    assert a.manifest == b.manifest
    assert set(a.tensors) == set(b.tensors)
    assert all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items())


@pytest.mark.parametrize("case", CASES)
def test_every_method_reads_fits_and_round_trips_through_both_formats(case, tmp_path):
    config, keys = CASES[case]
    folder = adapterhub_folder(tmp_path / "in", config, keys, head=folders.head_config())
    package = adapterhub.read(folder, profile())
    check(package, profile())
    assert_same(package, native.read(native.write(package)))
    adapterhub.write(package, tmp_path / "out")
    assert_same(package, adapterhub.read(tmp_path / "out", profile()))
    first, second = load_file(folder / "adapter.safetensors"), load_file(tmp_path / "out" / "adapter.safetensors")
    assert {k: v.tolist() for k, v in first.items()} == {k: v.tolist() for k, v in second.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_package_from_elsewhere_is_written_with_a_configuration_of_its_own(case, tmp_path):
    config, keys = CASES[case]
    package = adapterhub.read(adapterhub_folder(tmp_path / "in", config, keys, head=folders.head_config()), profile())
    manifest = replace(package.manifest, provenance=Provenance("chorus", "1"), source={})
    adapterhub.write(Package(manifest, package.tensors), tmp_path / "out", name="mine")
    back = adapterhub.read(tmp_path / "out", profile())
    assert sorted(back.manifest.parts, key=str) == sorted(package.manifest.parts, key=str)
    assert back.manifest.head.labels == package.manifest.head.labels
    assert all(torch.equal(tensor, back.tensors[name]) for name, tensor in package.tensors.items())
    assert all(".mine." in key for key in load_file(tmp_path / "out" / "adapter.safetensors"))


def test_the_manifest_keeps_the_library_s_configuration_whole(tmp_path):
    package = adapterhub.read(folders.seq_bn_folder(tmp_path), profile())
    assert package.manifest.source["adapter_config"] == json.loads((tmp_path / "adapter_config.json").read_text())
    assert package.manifest.source["head_config"] == json.loads((tmp_path / "head_config.json").read_text())
    assert package.manifest.provenance.library == "adapterhub"
    assert package.manifest.requires.model_type == "bert"


def test_keys_without_the_model_s_prefix_read_the_same(tmp_path):
    one = adapterhub.read(adapterhub_folder(tmp_path / "1", seq_bn(), folders.seq_bn_keys()), profile())
    two = adapterhub.read(adapterhub_folder(tmp_path / "2", seq_bn(), folders.seq_bn_keys(prefix="")), profile())
    assert_same(one, two)


def test_a_name_that_differs_from_the_configuration_s_is_given(tmp_path):
    folder = adapterhub_folder(tmp_path, seq_bn(), folders.seq_bn_keys(name="old"))
    with pytest.raises(Misfit, match="lacks"):
        adapterhub.read(folder, profile())
    assert adapterhub.read(folder, profile(), name="old").manifest.method == "bottleneck"


def test_every_missing_and_left_over_key_is_named_at_once(tmp_path):
    keys = folders.seq_bn_keys() | {"bert.encoder.layer.9.output.adapters.a.adapter_up.bias": (H,)}
    del keys["bert.encoder.layer.0.output.adapters.a.adapter_up.bias"]
    del keys["bert.encoder.layer.1.output.adapters.a.adapter_down.0.weight"]
    with pytest.raises(Misfit) as caught:
        adapterhub.read(adapterhub_folder(tmp_path, seq_bn(), keys), profile())
    assert len(caught.value.reasons) == 3


def test_a_width_that_contradicts_the_reduction_factor_is_refused(tmp_path):
    with pytest.raises(Misfit, match="width 4, but its tensors have 2"):
        adapterhub.read(adapterhub_folder(tmp_path, seq_bn(), folders.seq_bn_keys(width=2)), profile())


def prefix_copies(layers=range(LAYERS), root="bert."):
    held = tensors(POOLED)
    stem = "attention.self.prefix_tuning.pool.prefix_tunings.a.self_prefix"
    return {f"{root}encoder.layer.{i}.{stem}.{name}": t.clone() for i in layers for name, t in held.items()}


def prefix_folder(folder, held):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(folders.saved(prefix())))
    save_file(held, folder / "adapter.safetensors")
    return folder


def test_a_prefix_is_read_from_its_pool_copies_alone_if_they_agree(tmp_path):
    package = adapterhub.read(prefix_folder(tmp_path / "1", prefix_copies()), profile())
    assert torch.equal(package.tensors["model/attn_kv/wte.weight"], tensors(POOLED)["wte.weight"])
    own = {f"bert.prefix_tuning.prefix_tunings.a.self_prefix.{k}": t for k, t in tensors(POOLED).items()}
    assert_same(package, adapterhub.read(prefix_folder(tmp_path / "2", prefix_copies(range(1)) | own), profile()))


def test_pool_copies_that_differ_are_refused(tmp_path):
    held = prefix_copies()
    held[next(key for key in held if "layer.1" in key and key.endswith("wte.weight"))] += 1
    with pytest.raises(Misfit, match=r"copies of .*wte.weight differ"):
        adapterhub.read(prefix_folder(tmp_path / "1", held), profile())


def test_a_norm_before_may_be_stored_once_or_twice(tmp_path):
    keys = {}
    for i in range(LAYERS):
        stem = f"bert.encoder.layer.{i}.output.adapters.a"
        keys |= {f"{stem}.adapter_down.1.weight": (4, H), f"{stem}.adapter_down.1.bias": (4,)}
        keys |= {f"{stem}.adapter_up.weight": (H, 4), f"{stem}.adapter_up.bias": (H,)}
        keys |= {f"{stem}.adapter_norm_before.weight": (H,), f"{stem}.adapter_norm_before.bias": (H,)}
    config = seq_bn(ln_before=True)
    once = adapterhub.read(adapterhub_folder(tmp_path / "once", config, keys), profile())
    held = load_file(tmp_path / "once" / "adapter.safetensors")
    held |= {k.replace("adapter_norm_before", "adapter_down.0"): t.clone() for k, t in held.items() if "norm" in k}
    save_file(held, tmp_path / "once" / "adapter.safetensors")
    assert_same(once, adapterhub.read(tmp_path / "once", profile()))
    check(once, profile())


def test_distilbert_has_places_of_its_own(tmp_path):
    keys = {}
    for i in range(LAYERS):
        keys |= folders.bottleneck_keys(f"distilbert.transformer.layer.{i}.output_adapters.adapters.a")
    folder = adapterhub_folder(tmp_path, seq_bn(), keys, model_type="distilbert")
    check(adapterhub.read(folder, profile("distilbert")), profile("distilbert"))


def test_legacy_names_read_as_the_present_ones(tmp_path):
    keys = {
        key.replace(".adapters.", ".layer_text_task_adapters."): shape for key, shape in folders.seq_bn_keys().items()
    }
    assert adapterhub.read(adapterhub_folder(tmp_path, seq_bn(), keys), profile()).manifest.method == "bottleneck"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (profile("roberta"), "type 'bert'; this one is 'roberta'"),
        (profile(hidden=16), "hidden size 8; this backbone has 16"),
        (profile(layers=3), "lacks encoder.layer.2"),
        (profile(layers=1), "belongs to no part"),
    ],
)
def test_another_backbone_is_refused(tmp_path, where, message):
    with pytest.raises(Misfit, match=message):
        adapterhub.read(folders.seq_bn_folder(tmp_path), where)


def test_a_family_without_a_table_is_refused(tmp_path):
    folder = folders.seq_bn_folder(tmp_path, model_type="gpt2")
    with pytest.raises(Misfit, match="gpt2"):
        adapterhub.read(folder, profile("gpt2"))


def test_faults_of_adapter_and_head_come_together(tmp_path):
    keys = folders.seq_bn_keys(width=2)
    folder = adapterhub_folder(tmp_path, seq_bn(), keys, head=folders.head_config(head_type="causal_lm"))
    with pytest.raises(Misfit) as caught:
        adapterhub.read(folder, profile())
    assert len(caught.value.reasons) == LAYERS + 1
    assert "published alone" in caught.value.reasons[-1]


def test_a_head_alone_is_a_package_of_its_own_and_round_trips(tmp_path):
    held = tensors(folders.head_keys())
    folders.write(
        tmp_path / "in", "model_head.safetensors", "head_config.json", folders.saved(folders.head_config()), held
    )
    package = adapterhub.read(tmp_path / "in", profile())
    assert package.manifest.kind == "head"
    check(package, profile())
    adapterhub.write(package, tmp_path / "out")
    assert_same(package, adapterhub.read(tmp_path / "out", profile()))


def test_an_embedding_carries_its_tokenizer_s_bytes(tmp_path):
    folders.write(tmp_path / "in", "embedding.safetensors", None, None, tensors({"embedding": (3, H)}))
    package = adapterhub.read(tmp_path / "in", profile())
    assert not package.manifest.embedding.tokenizer
    (tmp_path / "in" / "tokenizer").mkdir()
    with pytest.raises(Misfit, match="fast tokenizer"):
        adapterhub.read(tmp_path / "in", profile())
    (tmp_path / "in" / "tokenizer" / "tokenizer.json").write_bytes(folders.tokenizer_json())
    package = adapterhub.read(tmp_path / "in", profile())
    check(package, profile())
    adapterhub.write(package, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer" / "tokenizer.json").read_bytes() == folders.tokenizer_json()
    assert_same(package, adapterhub.read(tmp_path / "out", profile()))


def test_an_embedding_of_two_tensors_is_refused(tmp_path):
    folders.write(tmp_path, "embedding.safetensors", None, None, tensors({"a": (3, H), "b": (3, H)}))
    with pytest.raises(Misfit, match="one matrix"):
        adapterhub.read(tmp_path, profile())


@pytest.mark.parametrize("config", ["adapter_fusion_config.json", "adapter_setup.json"])
def test_fusions_and_setups_are_refused_by_name(tmp_path, config):
    (tmp_path / config).write_text("{}")
    with pytest.raises(Misfit, match="not served yet"):
        adapterhub.read(tmp_path, profile())


def test_an_empty_folder_and_a_pickle_are_refused(tmp_path):
    with pytest.raises(Misfit, match="neither"):
        adapterhub.read(tmp_path, profile())
    (tmp_path / "adapter_config.json").write_text(json.dumps(folders.saved(seq_bn())))
    with pytest.raises(InvalidPackage, match=r"holds no adapter.safetensors"):
        adapterhub.read(tmp_path, profile())
    (tmp_path / "pytorch_adapter.bin").write_bytes(b"PK")
    with pytest.raises(UnsafeFile, match="chorus convert"):
        adapterhub.read(tmp_path, profile())


def test_a_configuration_that_no_longer_says_what_the_parts_say_is_not_written(tmp_path):
    package = adapterhub.read(folders.seq_bn_folder(tmp_path / "in"), profile())
    source = {**package.manifest.source, "adapter_config": folders.saved(seq_bn(scaling=2.0))}
    adapterhub.write(Package(replace(package.manifest, source=source), package.tensors), tmp_path / "out")
    assert adapterhub.read(tmp_path / "out", profile()).manifest.parts == package.manifest.parts


def test_tensors_without_a_place_are_not_dropped(tmp_path):
    package = adapterhub.read(folders.seq_bn_folder(tmp_path / "in"), profile())
    more = Package(package.manifest, dict(package.tensors) | {"0/attn_q/lora_A": torch.zeros(1)})
    with pytest.raises(Misfit, match="no place for 0/attn_q/lora_A"):
        adapterhub.write(more, tmp_path / "out")
