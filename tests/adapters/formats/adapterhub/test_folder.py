import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.errors import InvalidPackage, Misfit, UnsafeFile
from adapters.formats import native, recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.adapterhub import interfaces, parts
from adapters.formats.adapterhub.wording import Layout
from adapters.formats.check import check
from adapters.manifest import PartSpec, Provenance
from adapters.weights import Package
from tests.adapters.formats import folders
from tests.adapters.formats.adapterhub import by_hand
from tests.adapters.formats.folders import LAYERS, H, adapterhub_folder, lora, prefix, profile, seq_bn, tensors

POOLED = {
    "wte.weight": (3, H),
    "control_trans.0.weight": (5, H),
    "control_trans.0.bias": (5,),
    "control_trans.2.weight": (2 * LAYERS * H, 5),
    "control_trans.2.bias": (2 * LAYERS * H,),
}
EVERY = [(family, case) for family in by_hand.FAMILIES for case in by_hand.cases(family)]


def assert_same(a, b, besides=None):
    kept = [{k: v for k, v in one.manifest.source.items() if k != besides} for one in (a, b)]
    assert replace(a.manifest, source=kept[0]) == replace(b.manifest, source=kept[1])
    assert set(a.tensors) == set(b.tensors)
    assert all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items())


def signs(folder):
    """Orthogonal ReFT stores the signs of a factorisation on the diagonal of `original`."""
    held = load_file(folder / "adapter.safetensors")
    for key in (key for key in held if key.endswith(".original")):
        held[key] = torch.eye(*held[key].shape)
    save_file(held, folder / "adapter.safetensors")
    return folder


@pytest.mark.parametrize(("family", "case"), EVERY)
def test_every_method_of_every_family_reads_fits_and_round_trips_through_both_formats(family, case, tmp_path):
    config, keys = by_hand.cases(family)[case]
    folder = signs(adapterhub_folder(tmp_path / "in", config, keys, head=folders.head_config(), model_type=family))
    package = adapterhub.read(folder, profile(family))
    check(package, profile(family))
    stored = native.read(native.write(package))
    assert_same(package, stored)
    adapterhub.write(stored, tmp_path / "out")
    assert_same(package, adapterhub.read(tmp_path / "out", profile(family)), besides="adapter_interface")
    for name in ("adapter.safetensors", "model_head.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert (tmp_path / "out" / "adapter_interface.json").is_file() == (family == "modernbert")


@pytest.mark.parametrize(("family", "case"), EVERY)
def test_a_package_from_elsewhere_is_written_with_a_configuration_of_its_own(family, case, tmp_path):
    config, keys = by_hand.cases(family)[case]
    folder = adapterhub_folder(tmp_path / "in", config, keys, head=folders.head_config(), model_type=family)
    package = adapterhub.read(folder, profile(family))
    manifest = replace(package.manifest, provenance=Provenance("chorus", "1"), source={})
    stored = native.read(native.write(Package(manifest, package.tensors)))
    adapterhub.write(stored, tmp_path / "out", name="mine")
    back = adapterhub.read(tmp_path / "out", profile(family))
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


def test_a_task_adapter_of_the_first_versions_may_lack_the_inverse_that_it_was_configured_with(tmp_path):
    config = seq_bn(invertible_adapter={"block_type": "nice", "reduction_factor": 2})
    folder = adapterhub_folder(tmp_path / "1", config, folders.seq_bn_keys(), type="text_task")
    package = adapterhub.read(folder, profile())
    assert package.manifest.method == "bottleneck"
    adapterhub.write(package, tmp_path / "2")
    assert adapterhub.read(tmp_path / "2", profile()).manifest.parts == package.manifest.parts
    with pytest.raises(Misfit, match="invertible"):
        adapterhub.read(adapterhub_folder(tmp_path / "3", config, folders.seq_bn_keys(), type="text_lang"), profile())


def test_layers_in_groups_keep_their_keys(tmp_path):
    keys = {}
    for i in range(LAYERS):
        keys |= folders.bottleneck_keys(
            f"albert.encoder.albert_layer_groups.0.albert_layers.{i}.output_adapters.adapters.a"
        )
    geometry = replace(profile("albert").geometry, inner_layers=2)
    where = replace(profile(), geometry=geometry)
    folder = adapterhub_folder(tmp_path / "in", seq_bn(), keys, model_type="albert")
    package = adapterhub.read(folder, where)
    adapterhub.write(package, tmp_path / "out")
    assert (folder / "adapter.safetensors").read_bytes() == (tmp_path / "out" / "adapter.safetensors").read_bytes()
    assert_same(package, adapterhub.read(tmp_path / "out", where))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "type 'roberta'; this one is 'bert' (without head_config.json"),
        ({"hidden_size": 16}, "hidden size 16; this backbone has 8 (without head_config.json"),
        ({"hidden_size": "8"}, "hidden size '8'; this backbone has 8"),
    ],
)
def test_a_head_of_another_backbone_is_refused_beside_a_fitting_adapter(tmp_path, changes, message):
    folder = folders.seq_bn_folder(tmp_path)
    (folder / "head_config.json").write_text(json.dumps(folders.saved(folders.head_config(), **changes)))
    with pytest.raises(Misfit) as caught:
        adapterhub.read(folder, profile())
    assert any(message in reason for reason in caught.value.reasons)


def test_a_family_without_a_table_is_refused(tmp_path):
    folder = folders.seq_bn_folder(tmp_path, model_type="gptj")
    with pytest.raises(Misfit, match="gptj"):
        adapterhub.read(folder, profile("gptj"))


def test_faults_of_adapter_and_head_come_together(tmp_path):
    keys = folders.seq_bn_keys(width=2)
    folder = adapterhub_folder(tmp_path, seq_bn(), keys, head=folders.head_config(head_type="speech"))
    with pytest.raises(Misfit) as caught:
        adapterhub.read(folder, profile())
    said = caught.value.reasons
    assert sum("reduction factor" in reason for reason in said) == LAYERS
    assert sum("published alone" in reason for reason in said) == 1


def test_what_lacks_what_is_left_over_and_what_has_another_shape_come_together(tmp_path):
    keys = {name: torch.randn(shape) for name, shape in folders.seq_bn_keys().items()}
    names = sorted(keys)
    del keys[names[0]]
    keys[names[1]] = torch.randn(3, 3, 3)
    keys["bert.nowhere"] = torch.randn(2)
    keys[names[2]].fill_(float("nan"))
    folder = tmp_path / "in"
    folders.write(folder, "adapter.safetensors", "adapter_config.json", folders.saved(seq_bn()), keys)
    with pytest.raises(Misfit) as caught:
        recognise.read(folder, profile())
    for word in ("lacks", "bert.nowhere belongs", "has the shape [3, 3, 3]", "NaN or infinity"):
        assert sum(word in reason for reason in caught.value.reasons) == 1, caught.value.reasons


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


def test_replicated_layers_are_not_for_its_folders(tmp_path):
    config, keys = by_hand.cases("bert")["lora"]
    package = adapterhub.read(adapterhub_folder(tmp_path / "in", config, keys), profile())
    routed = Package(replace(package.manifest, route=(1, 0)), package.tensors)
    with pytest.raises(Misfit, match="has no replicated layers"):
        adapterhub.write(routed, tmp_path / "out")


def test_a_whole_setup_is_no_package(tmp_path):
    (tmp_path / "adapter_setup.json").write_text("{}")
    with pytest.raises(Misfit, match="publishes it as a target"):
        adapterhub.read(tmp_path, profile())


def fusion_folder(folder, held=None, name="x,y", config=None, **changes):
    saved = folders.saved(config or by_hand.fusion_config(), name=name, adapter_names=["x", "y"], **changes)
    held = tensors(by_hand.fusion(by_hand.FAMILIES["bert"], name)) if held is None else held
    return folders.write(folder, adapterhub.FUSION, "adapter_fusion_config.json", saved, held)


@pytest.mark.parametrize("family", by_hand.FAMILIES)
def test_a_fusion_is_a_package_of_its_own_and_round_trips(family, tmp_path):
    held = tensors(by_hand.fusion(by_hand.FAMILIES[family]))
    folder = fusion_folder(tmp_path / "in", held, model_type=family)
    package = adapterhub.read(folder, profile(family))
    assert (package.manifest.kind, package.manifest.children) == ("fusion", ("x", "y"))
    check(package, profile(family))
    assert_same(package, native.read(native.write(package)))
    adapterhub.write(package, tmp_path / "out")
    assert_same(package, adapterhub.read(tmp_path / "out", profile(family)))
    assert (folder / adapterhub.FUSION).read_bytes() == (tmp_path / "out" / adapterhub.FUSION).read_bytes()
    manifest = replace(package.manifest, provenance=Provenance("chorus", "1"), source={})
    adapterhub.write(Package(manifest, package.tensors), tmp_path / "other", name="mine")
    back = adapterhub.read(tmp_path / "other", profile(family))
    assert (back.manifest.parts, back.manifest.children) == (package.manifest.parts, package.manifest.children)


def test_tensors_of_another_fusion_are_left_out_with_a_warning_and_others_refused(tmp_path):
    family = by_hand.FAMILIES["bert"]
    held = tensors(by_hand.fusion(family)) | tensors(by_hand.fusion(family, "x,y,z"))
    package = adapterhub.read(fusion_folder(tmp_path / "1", held), profile())
    assert len(package.tensors) == len(held) / 2
    assert "other fusions" in package.manifest.source["warnings"][0]
    held["bert.encoder.layer.0.output.adapters.a.scaling"] = torch.ones(1)
    with pytest.raises(Misfit, match="belongs to no part of the fusion"):
        adapterhub.read(fusion_folder(tmp_path / "2", held), profile())


def test_a_fusion_that_lacks_a_map_at_one_place_is_refused(tmp_path):
    held = tensors(by_hand.fusion(by_hand.FAMILIES["bert"]))
    del held["bert.encoder.layer.1.output.adapter_fusion_layer.x,y.key.bias"]
    with pytest.raises(Misfit, match=r"lacks encoder\.layer\.1\.output\.adapter_fusion_layer\.x,y\.key\.bias"):
        adapterhub.read(fusion_folder(tmp_path, held), profile())


@pytest.mark.parametrize("case", ["compacter", "vera"])
def test_what_a_base_model_s_save_leaves_out_is_named_with_its_remedy(case, tmp_path):
    config, keys = by_hand.cases("bert")[case]
    bare = {key.removeprefix("bert."): shape for key, shape in keys.items() if "shared_parameters" not in key}
    with pytest.raises(Misfit) as caught:
        adapterhub.read(adapterhub_folder(tmp_path, config, bare), profile())
    lost = [key for key in keys if "shared_parameters" in key]
    assert len(caught.value.reasons) == len(lost) + 1
    assert all("lacks shared_parameters.a." in reason for reason in caught.value.reasons[:-1])
    assert "save the adapter from a model with a head" in caught.value.reasons[-1]


def test_a_fused_map_that_can_not_be_divided_is_refused(tmp_path):
    config, keys = by_hand.cases("modernbert")["lora"]
    keys = keys | {"layers.0.attn.Wqkv.loras.a.lora_A": (7, H)}
    with pytest.raises(Misfit, match=r"lora_A \[7, 8\] is not one block for each of 3 maps"):
        adapterhub.read(adapterhub_folder(tmp_path, config, keys, model_type="modernbert"), profile("modernbert"))


def test_blocks_of_a_fused_map_go_to_the_maps_in_their_order(tmp_path):
    config, keys = lora(attn_matrices=["v", "q"]), by_hand.low_rank(by_hand.FAMILIES["modernbert"], "qv")
    folder = adapterhub_folder(tmp_path, config, keys, model_type="modernbert")
    package = adapterhub.read(folder, profile("modernbert"))
    whole = load_file(folder / "adapter.safetensors")["layers.1.attn.Wqkv.loras.a.lora_B"]
    assert torch.equal(package.tensors["1/attn_q/lora_B"], whole[:H])
    assert torch.equal(package.tensors["1/attn_v/lora_B"], whole[H:])


def test_an_interface_that_the_family_is_not_served_with_is_refused(tmp_path):
    config, keys = by_hand.cases("modernbert")["seq_bn"]
    folder = adapterhub_folder(tmp_path, config, keys, model_type="modernbert")
    said = interfaces.interface("modernbert")
    (folder / "adapter_interface.json").write_text(json.dumps(said))
    package = adapterhub.read(folder, profile("modernbert"))
    assert package.manifest.source["adapter_interface"] == said
    said["interface"]["layer_output_proj"] = "mlp.Wi"
    (folder / "adapter_interface.json").write_text(json.dumps(said))
    with pytest.raises(Misfit, match=r"layer_output_proj='mlp\.Wi'"):
        adapterhub.read(folder, profile("modernbert"))


def test_a_reft_that_may_be_a_direft_is_read_with_a_warning(tmp_path):
    keys = by_hand.reft(by_hand.FAMILIES["bert"])
    package = adapterhub.read(adapterhub_folder(tmp_path / "1", by_hand.reft_config(), keys), profile())
    assert package.manifest.parts[0].config["subtract_projection"] is True
    assert "DiReFT" in package.manifest.source["warnings"][0]
    said = by_hand.reft_config(subtract_projection=False)
    package = adapterhub.read(adapterhub_folder(tmp_path / "2", said, keys), profile())
    assert package.manifest.parts[0].config["subtract_projection"] is False
    assert "warnings" not in package.manifest.source


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


def elsewhere(package, *specs):
    """The package as one that did not come from AdapterHub, with these parts if any are given."""
    manifest = replace(package.manifest, provenance=Provenance("chorus", "1"), source={})
    return Package(replace(manifest, parts=specs or manifest.parts), package.tensors)


@pytest.mark.parametrize("came_from_adapterhub", [True, False])
def test_a_direft_is_not_written_for_the_library_would_compute_a_noreft(tmp_path, came_from_adapterhub):
    said = by_hand.reft_config(subtract_projection=False)
    keys = by_hand.reft(by_hand.FAMILIES["bert"])
    package = adapterhub.read(adapterhub_folder(tmp_path / "in", said, keys), profile())
    with pytest.raises(Misfit, match="DiReFT would compute something else there: keep it as a native package"):
        adapterhub.write(package if came_from_adapterhub else elsewhere(package), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert_same(package, native.read(native.write(package)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"dora": "adapterhub"}, "computes no DoRA"), ({}, None)],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, changes, message):
    config, keys = by_hand.cases("modernbert")["lora"]
    folder = adapterhub_folder(tmp_path / "in", config, keys, model_type="modernbert")
    package = adapterhub.read(folder, profile("modernbert"))
    (part,) = package.manifest.parts
    sites = {site: {**held, "gated": False, "bias": False} | changes for site, held in part.config["sites"].items()}
    held = dict(package.tensors) | {f"{site}/magnitude": torch.ones(H) for site in sites if changes}
    changed = Package(elsewhere(package, PartSpec(part.method, {"sites": sites})).manifest, held)
    if message is None:
        adapterhub.write(changed, tmp_path / "out")
        assert adapterhub.read(tmp_path / "out", profile("modernbert")).manifest.parts == (part,)
        return
    with pytest.raises(Misfit, match=message) as caught:
        adapterhub.write(changed, tmp_path / "out")
    assert "native package" in caught.value.reasons[-1]
    assert not (tmp_path / "out").exists()


def test_what_would_read_as_something_else_is_not_written(tmp_path, monkeypatch):
    package = elsewhere(adapterhub.read(folders.seq_bn_folder(tmp_path / "in"), profile()))
    layout = parts.LAYOUTS["bottleneck"]

    def narrower(config, host):
        words = layout.write(config, host)
        return words | {"reduction_factor": 2 * words["reduction_factor"]}

    monkeypatch.setitem(parts.LAYOUTS, "bottleneck", Layout(layout.keys, narrower))
    with pytest.raises(Misfit, match="would read as something else"):
        adapterhub.write(package, tmp_path / "out")


@pytest.mark.parametrize("rank", [2, 3, 7, 11])
def test_a_scaling_that_is_no_quotient_of_integers_is_written(tmp_path, rank):
    keys = {key: (rank, H) if key.endswith("A") else (H, rank) for key in by_hand.low_rank(by_hand.FAMILIES["bert"])}
    folder = adapterhub_folder(tmp_path / "in", lora(r=rank), keys)
    package = adapterhub.read(folder, profile())
    for scaling in (0.1, 0.3, 16 / rank**0.5, 1.1 / 3):
        (part,) = package.manifest.parts
        sites = {site: {"rank": rank, "scaling": scaling} for site in part.config["sites"]}
        adapterhub.write(elsewhere(package, PartSpec("lora", {"sites": sites})), tmp_path / "out")
        (back,) = adapterhub.read(tmp_path / "out", profile()).manifest.parts
        assert back.config["sites"]["0/attn_q"]["scaling"] == pytest.approx(scaling, rel=1e-12)


def test_a_head_is_written_for_the_family_s_class(tmp_path):
    folder = folders.seq_bn_folder(tmp_path / "in")
    adapterhub.write(elsewhere(adapterhub.read(folder, profile())), tmp_path / "out")
    for name in ("adapter_config.json", "head_config.json"):
        assert json.loads((tmp_path / "out" / name).read_text())["model_class"] == "BertAdapterModel"
