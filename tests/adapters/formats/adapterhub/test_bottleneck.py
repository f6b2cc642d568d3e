import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub.bottleneck import factor, write
from tests.adapters.formats.adapterhub.reading import host, keys, read, reasons, stored
from tests.adapters.formats.folders import bottleneck_keys, seq_bn


def test_a_bottleneck_keeps_every_setting_and_names_its_sites():
    (part,) = read(seq_bn(scaling="channel", residual_before_ln="post_add", non_linearity="SWISH"))
    assert part.method == "bottleneck"
    assert part.config == {
        "sites": {"0/ffn_junction": {"width": 4}, "1/ffn_junction": {"width": 4}},
        "non_linearity": "swish",
        "is_parallel": False,
        "ln_before": False,
        "ln_after": False,
        "residual_before_ln": "post_add",
        "adapter_residual_before_ln": False,
        "original_ln_before": True,
        "original_ln_after": True,
        "scaling": "channel",
        "use_gating": False,
    }


def test_both_sites_and_a_map_of_reduction_factors_and_left_out_layers():
    (part,) = read(seq_bn(mh_adapter=True, reduction_factor={"1": 8, "default": 4}))
    assert part.config["sites"] == {
        "0/attn_junction": {"width": 2},
        "0/ffn_junction": {"width": 2},
        "1/attn_junction": {"width": 1},
        "1/ffn_junction": {"width": 1},
    }
    (part,) = read(seq_bn(leave_out=[0]))
    assert list(part.config["sites"]) == ["1/ffn_junction"]


@pytest.mark.parametrize("narrow", [1, 2, 3, 4, 5, 8, 16])
def test_every_width_has_a_factor(narrow):
    (part,) = read(seq_bn(reduction_factor=factor(8, narrow)))
    assert part.config["sites"]["0/ffn_junction"] == {"width": narrow}


def test_members_that_an_old_configuration_lacks_have_the_library_s_defaults():
    (part,) = read({"mh_adapter": True, "output_adapter": False, "reduction_factor": 2, "non_linearity": "relu"})
    assert part.config["original_ln_before"] is False
    assert part.config["original_ln_after"] is True
    assert part.config["scaling"] == 1.0


def test_adapter_plus_trains_with_what_inference_does_not_have():
    plus = seq_bn(original_ln_after=False, residual_before_ln=False, scaling="channel", stochastic_depth=0.1)
    (part,) = read(plus)
    assert "stochastic_depth" not in part.config
    assert part.config["original_ln_after"] is False


@pytest.mark.parametrize(
    "reduction", [{"0": 2}, 0, "2", True, -1, None], ids=["no default", "zero", "text", "true", "negative", "none"]
)
def test_a_reduction_factor_that_is_none_is_refused(reduction):
    (reason,) = reasons(seq_bn(reduction_factor=reduction))
    assert reason.startswith("bottleneck: reduction_factor must be a number above zero")


def test_what_an_interface_of_adapterhub_can_not_do_is_refused():
    assert "original_ln_after" in reasons(seq_bn(original_ln_after=False), "modernbert")[0]
    assert read(seq_bn(original_ln_after=False, output_adapter=False, inv_adapter="nice"), "modernbert")


def test_keys_of_bert_and_distilbert():
    stems = ("encoder.layer.1.attention.output.adapters.a", "encoder.layer.1.output.adapters.a")
    assert stored(seq_bn(mh_adapter=True, leave_out=[0])) == {key for stem in stems for key in bottleneck_keys(stem)}
    stems = ("transformer.layer.1.attention_adapters.adapters.a", "transformer.layer.1.output_adapters.adapters.a")
    found = stored(seq_bn(mh_adapter=True, leave_out=[0]), "distilbert")
    assert found == {key for stem in stems for key in bottleneck_keys(stem)}


def test_an_own_norm_before_moves_the_linear_map_and_is_stored_twice():
    found = keys(seq_bn(ln_before=True, ln_after=True, use_gating=True, scaling="learned", leave_out=[1]))
    stem = "encoder.layer.0.output.adapters.a"
    assert found["0/ffn_junction/down.weight"].stored == f"{stem}.adapter_down.1.weight"
    norm = found["0/ffn_junction/norm_before.bias"]
    assert (norm.stored, norm.copies) == (f"{stem}.adapter_norm_before.bias", (f"{stem}.adapter_down.0.bias",))
    assert found["0/ffn_junction/norm_after.weight"].stored == f"{stem}.adapter_norm_after.weight"
    assert found["0/ffn_junction/gate.weight"].stored == f"{stem}.gate.weight"
    assert found["0/ffn_junction/scaling"].stored == f"{stem}.scaling"


def test_names_stand_in_keys_as_they_are():
    found = keys(seq_bn(scaling="learned"), name="my,(x)").values()
    assert "encoder.layer.0.output.adapters.my,(x).scaling" in {key.stored for key in found}


def test_widths_that_differ_within_a_layer_have_no_words():
    (part,) = read(seq_bn(mh_adapter=True))
    sites = {**part.config["sites"], "0/ffn_junction": {"width": 2}}
    with pytest.raises(Misfit, match="one width per layer"):
        write({**part.config, "sites": sites}, host())
