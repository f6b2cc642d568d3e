import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub import lora as words
from tests.adapters.formats.adapterhub.by_hand import mtl_config, scale
from tests.adapters.formats.adapterhub.reading import host, keys, read, reasons, stored
from tests.adapters.formats.folders import lora

SITE = {"rank": 2, "scaling": 1.0, "bias": False}
FACTOR = {"at": "output", "scaling": 1.0}
VERA = {"vera_d": 0.1, "vera_b": 0.0}


def test_lora_scales_by_alpha_over_r_at_the_matrices_it_names():
    (part,) = read(lora(attn_matrices=["k", "q"], intermediate_lora=True, output_lora=True, leave_out=[1]))
    held = {"rank": 2, "scaling": 4.0, "bias": False}
    assert part.config == {"sites": dict.fromkeys(["0/attn_q", "0/attn_k", "0/ffn_in", "0/ffn_out"], held)}


def test_gates_and_dora_are_said_where_they_are():
    (part,) = read(lora(use_gating=True, use_dora=True))
    assert part.config["sites"]["0/attn_q"] == {
        "rank": 2,
        "scaling": 4.0,
        "bias": False,
        "gated": True,
        "dora": "adapterhub",
    }
    (part,) = read(scale(use_gating=True))
    assert part.config["sites"]["0/attn_k"] == {"at": "output", "scaling": 1.0, "gated": True}


def test_lora_that_scales_is_ia3():
    (part,) = read(lora(composition_mode="scale", r=1, alpha=3, attn_matrices=["k"], intermediate_lora=True))
    assert (part.method, part.config["sites"]["1/ffn_in"]) == ("ia3", {"at": "output", "scaling": 3.0})


def test_vera_is_told_by_floats_as_the_library_does():
    (part,) = read(lora(**VERA, use_dora=True))
    assert part.method == "vera"
    assert part.config == {
        "rank": 2,
        "scaling": 4.0,
        "sites": {f"{i}/{site}": {"dora": "adapterhub"} for i in range(2) for site in ("attn_q", "attn_v")},
    }
    assert read(lora(vera_d=None, vera_b=0.0))[0].method == "vera"
    assert read(lora(vera_d=1, vera_b=None))[0].method == "lora"


def test_mtl_lora_keeps_what_its_tasks_share_and_do_not():
    (part,) = read(mtl_config(use_gating=True))
    assert (part.method, part.config["projections"], part.config["sharpness"]) == ("mtl_lora", 3, 0.5)
    assert part.config["sites"]["1/attn_v"] == {"rank": 2, "scaling": 4.0, "gated": True}


@pytest.mark.parametrize(
    ("config", "family", "said"),
    [
        (lora(composition_mode="multiply"), "bert", "multiply"),
        (lora(composition_mode="scale", r=2), "bert", "composition_mode 'scale' needs r 1, and has no use_dora"),
        (scale(use_dora=True), "bert", "needs r 1, and has no use_dora"),
        (scale(**VERA), "bert", "neither DoRA nor VeRA"),
        (lora(attn_matrices=["z"]), "bert", "attn_matrices must be a list of 'q', 'k', 'v', not ['z']"),
        (lora(use_dora=True), "modernbert", "no DoRA in a map"),
        (lora(**VERA), "modernbert", "can not run VeRA"),
        (scale(alpha=2), "modernbert", "adapt all three"),
        (mtl_config(), "modernbert", "can not run MTL-LoRA"),
        (mtl_config(composition_mode="scale"), "bert", "composition_mode must be one of 'add', not 'scale'"),
        (mtl_config(task_specific_matrix_type="linear"), "bert", "'linear'"),
        (mtl_config(use_dora=True), "bert", "neither DoRA nor VeRA"),
        (mtl_config(**VERA), "bert", "neither DoRA nor VeRA"),
        (lora(r=0), "bert", "LoRA: r must be an integer from 1 to 100000, not 0"),
        (lora(alpha="x"), "bert", "LoRA: alpha must be a number, not 'x'"),
        (lora(attn_matrices=None), "bert", "LoRA: attn_matrices must be a list"),
        (lora(vera_d="0.1"), "bert", "LoRA: vera_d must be a number or nothing, not '0.1'"),
        (mtl_config(vera_b=[0.1]), "bert", "MTL-LoRA: vera_b must be a number or nothing"),
    ],
)
def test_what_can_not_be_served_is_named(config, family, said):
    assert said in reasons(config, family)[0]


def test_ia3_over_all_three_maps_of_a_fused_one_may_have_an_alpha():
    assert read(scale(alpha=2, attn_matrices=["q", "k", "v"]), "modernbert")


def test_keys_follow_the_family_s_paths():
    found = stored(lora(attn_matrices=["q"], intermediate_lora=True, output_lora=True, leave_out=[0]), "distilbert")
    assert found == {
        f"transformer.layer.1.{path}.loras.a.{parameter}"
        for path in ("attention.q_lin", "ffn.lin1", "ffn.lin2")
        for parameter in ("lora_A", "lora_B")
    }
    key = keys(scale())["0/attn_v/scale"]
    assert (key.stored, key.column) == ("encoder.layer.0.attention.self.value.loras.a.lora_B", True)
    key = keys(lora(use_dora=True))["0/attn_v/magnitude"]
    assert (key.stored, key.column) == ("encoder.layer.0.attention.self.value.loras.a.m.weight", True)


def test_a_fused_map_is_one_key_with_its_blocks_in_the_map_s_order():
    found = keys(lora(attn_matrices=["v", "q"], use_gating=True, leave_out=[1]), "modernbert")
    assert {names: key.stored for names, key in found.items()} == {
        f"0/attn_q/{p} 0/attn_v/{p}": f"layers.0.attn.Wqkv.loras.a.{p}"
        for p in ("lora_A", "lora_B", "gate.weight", "gate.bias")
    }


def test_a_task_s_own_values_and_shared_matrices_have_their_names():
    assert keys(mtl_config())["0/attn_q/task"].stored.endswith("query.loras.a.task_specific.values")
    assert keys(lora(**VERA))["model/vera/lora_A"].stored == "shared_parameters.a.lora_A"


@pytest.mark.parametrize(
    "config",
    [
        lora(use_gating=True),
        lora(use_dora=True, leave_out=[1], r=3),
        scale(use_gating=True),
        lora(**VERA, use_dora=True),
        mtl_config(alpha=3),
    ],
)
def test_a_configuration_made_from_a_part_reads_as_the_same_part(config):
    (part,) = read(config)
    write = {"lora": words.write_lora, "ia3": words.write_ia3, "vera": words.write_vera, "mtl_lora": words.write_mtl}
    assert read(write[part.method](part.config, host())) == (part,)


@pytest.mark.parametrize(
    ("write", "sites"),
    [
        (words.write_lora, {"0/attn_q": SITE, "1/attn_q": SITE | {"rank": 4}}),
        (words.write_lora, {"0/attn_q": SITE, "1/attn_q": SITE | {"gated": True}}),
        (words.write_lora, {"0/attn_q": SITE | {"bias": True}}),
        (words.write_lora, {"0/attn_q": SITE | {"dora": "peft"}}),
        (words.write_lora, {"0/attn_out": SITE}),
        (words.write_lora, {"0/attn_q": SITE, "1/attn_k": SITE}),
        (words.write_lora, {"0/attn_q": SITE, "model/pooler": SITE}),
        (words.write_ia3, {"0/attn_q": FACTOR | {"at": "input"}}),
        (words.write_ia3, {"0/attn_q": FACTOR, "0/attn_k": FACTOR | {"scaling": 2.0}}),
    ],
)
def test_what_adapterhub_has_no_words_for_is_refused(write, sites):
    with pytest.raises(Misfit, match="AdapterHub"):
        write({"sites": sites}, host())
