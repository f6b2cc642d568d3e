from adapters.architectures.families import ARCHITECTURES
from adapters.formats.adapterhub_config import Sizes, read_parts
from adapters.formats.adapterhub_keys import keys, modern
from tests.adapters.formats.folders import bottleneck_keys, lora, prefix, saved, seq_bn

SIZES = Sizes(hidden=8, embedding=8, layers=2)


def stored(config, family="bert", name="a"):
    parts = read_parts(saved(config), SIZES)
    return {key.native: key for part in parts for key in keys(part, name, ARCHITECTURES[family], 2)}


def test_bottleneck_keys_of_bert_and_distilbert():
    found = {key.stored for key in stored(seq_bn(mh_adapter=True, leave_out=[0])).values()}
    stems = ("encoder.layer.1.attention.output.adapters.a", "encoder.layer.1.output.adapters.a")
    assert found == {key for stem in stems for key in bottleneck_keys(stem)}
    found = {key.stored for key in stored(seq_bn(mh_adapter=True, leave_out=[0]), "distilbert").values()}
    stems = ("transformer.layer.1.attention_adapters.adapters.a", "transformer.layer.1.output_adapters.adapters.a")
    assert found == {key for stem in stems for key in bottleneck_keys(stem)}


def test_an_own_norm_before_moves_the_linear_map_and_is_stored_twice():
    found = stored(seq_bn(ln_before=True, ln_after=True, use_gating=True, scaling="learned", leave_out=[1]))
    stem = "encoder.layer.0.output.adapters.a"
    assert found["0/ffn_junction/down.weight"].stored == f"{stem}.adapter_down.1.weight"
    norm = found["0/ffn_junction/norm_before.bias"]
    assert (norm.stored, norm.copies) == (f"{stem}.adapter_norm_before.bias", (f"{stem}.adapter_down.0.bias",))
    assert found["0/ffn_junction/norm_after.weight"].stored == f"{stem}.adapter_norm_after.weight"
    assert found["0/ffn_junction/gate.weight"].stored == f"{stem}.gate.weight"
    assert found["0/ffn_junction/scaling"].stored == f"{stem}.scaling"


def test_lora_and_ia3_keys_follow_the_family_s_paths():
    found = stored(lora(attn_matrices=["q"], intermediate_lora=True, output_lora=True, leave_out=[0]), "distilbert")
    assert {key.stored for key in found.values()} == {
        f"transformer.layer.1.{path}.loras.a.{parameter}"
        for path in ("attention.q_lin", "ffn.lin1", "ffn.lin2")
        for parameter in ("lora_A", "lora_B")
    }
    key = stored(lora(composition_mode="scale", r=1))["0/attn_v/scale"]
    assert (key.stored, key.column) == ("encoder.layer.0.attention.self.value.loras.a.lora_B", True)


def test_a_prefix_is_one_tensor_with_a_copy_in_every_layer():
    key = stored(prefix(flat=True))["model/attn_kv/control_trans"]
    assert key.stored == "prefix_tuning.prefix_tunings.a.self_prefix.control_trans"
    pool = "attention.self.prefix_tuning.pool.prefix_tunings.a.self_prefix.control_trans"
    assert key.copies == (f"encoder.layer.0.{pool}", f"encoder.layer.1.{pool}")
    key = stored(prefix(), "distilbert")["model/attn_kv/wte.weight"]
    assert key.stored == "prefix_tuning.prefix_tunings.a.self.wte.weight"
    assert key.copies[0] == "transformer.layer.0.attention.prefix_tuning.pool.prefix_tunings.a.self.wte.weight"


def test_names_stand_in_keys_as_they_are():
    assert "encoder.layer.0.output.adapters.my,(x).scaling" in {
        key.stored for key in stored(seq_bn(scaling="learned"), name="my,(x)").values()
    }


def test_names_of_the_first_versions_are_renamed_by_whole_segments():
    assert modern("encoder.layer.0.output.layer_text_task_adapters.a.adapter_up.bias") == (
        "encoder.layer.0.output.adapters.a.adapter_up.bias"
    )
    assert modern("invertible_lang_adapters.a.F.0.bias") == "invertible_adapters.a.F.0.bias"
    assert modern("x.my_layer_text_task_adapters.y") == "x.my_layer_text_task_adapters.y"
