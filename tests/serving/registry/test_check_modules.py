import pytest

from adapters.methods.fold import fold
from serving.registry.check_modules import matched, untouched
from tests.adapters import builders


def of(family, *parts):
    profile = builders.profile(family)
    package = builders.package(family, list(parts))
    return matched(fold(package, profile, builders.torch.float32), profile.geometry), profile.geometry


def test_linear_sites_are_their_modules_from_the_bottom_up():
    touched, geometry = of("bert", builders.lora(("attn_q", "attn_v")))
    assert touched == {
        "linear": [
            "encoder.layer.0.attention.self.query",
            "encoder.layer.0.attention.self.value",
            "encoder.layer.1.attention.self.query",
            "encoder.layer.1.attention.self.value",
        ]
    }
    left = untouched(touched, geometry)
    assert left[0] == "embeddings"
    assert left[-1] == "pooler.dense"
    assert "encoder.layer.0.attention.self.key" in left
    assert "encoder.layer.0.attention.self.query" not in left


def test_a_junction_is_the_norm_in_which_it_ends():
    touched, _ = of("bert", builders.bottleneck(layers=[1]))
    assert touched == {"junction": ["encoder.layer.1.output.LayerNorm"]}


def test_what_acts_between_the_stacks_of_an_encoder_decoder_is_the_decoders():
    touched, _ = of("bart", builders.CROSS_PARTS["cross_bn"], builders.CROSS_PARTS["prefix_cross"])
    assert touched == {
        "junction": ["decoder.layers.0.encoder_attn_layer_norm"],
        "attention_kv": ["decoder.layers.0.encoder_attn"],
    }


def test_every_module_of_every_family_is_matched_or_untouched_and_exists():
    for family in (*builders.FAMILIES, *builders.SEQ2SEQ):
        profile = builders.profile(family)
        geometry = profile.geometry
        part = builders.lora(("attn_out",))
        touched, _ = of(family, part)
        left = untouched(touched, geometry)
        modules = {module for found in touched.values() for module in found}
        assert not modules & set(left)
        assert len(left) == len(set(left))
        held = dict(builders.backbone(family).model.named_modules())
        assert {module for module in (*modules, *left) if not module.startswith("pooler")} <= held.keys(), family


def test_a_vocabulary_touches_the_embeddings_alone():
    geometry = builders.profile("bert").geometry
    touched = matched(None, geometry)
    assert touched == {"embed_out": ["embeddings"]}
    assert "embeddings" not in untouched(touched, geometry)


@pytest.mark.parametrize("method", ["prefix_flat", "prompt"])
def test_what_acts_in_no_map_is_found_as_well(method):
    part = builders.PARTS[method]
    (modules,) = of("bert", part)[0].values()
    assert (
        modules
        == {
            "prefix_flat": ["encoder.layer.0.attention.self", "encoder.layer.1.attention.self"],
            "prompt": ["embeddings"],
        }[method]
    )


def test_replaced_norms_are_named_themselves():
    touched, geometry = of("bert", builders.PARTS["norms"])
    modules = [module for found in touched.values() for module in found]
    assert "embeddings.LayerNorm" in modules and all(module.endswith("LayerNorm") for module in modules)
    assert not set(modules) & set(untouched(touched, geometry))
