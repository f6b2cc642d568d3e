from dataclasses import replace

import pytest
import torch
from torch import nn

from adapters.architectures.encoders import BERT, DISTILBERT, ELECTRA, ROBERTA, XLM_ROBERTA
from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.geometry import read_geometry
from adapters.architectures.sites import SITES, Address, SiteKind
from adapters.batch.rows import Row
from adapters.errors import UnknownArchitecture
from adapters.manifest import PartSpec
from adapters.methods.fold import fold
from tests.adapters import builders


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_every_linear_path_is_a_linear_map_of_the_width_that_the_record_tells(family):
    modules = dict(builders.backbone(family).model.named_modules())
    geometry = builders.profile(family).geometry
    record = geometry.architecture
    for address in record.addresses(geometry.layers):
        if SITES[address.site] is SiteKind.LINEAR and address.layer is not None:
            module = modules[record.linear_path(address)]
            part = record.fused(address)
            assert isinstance(module, nn.Linear)
            out = module.out_features // (1 if part is None else part[1])
            assert (module.in_features, out) == geometry.linear_width(address.site)


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_every_module_that_a_record_names_is_there_and_every_norm_is_a_norm(family):
    model, geometry = builders.backbone(family).model, builders.profile(family).geometry
    record, modules = geometry.architecture, dict(model.named_modules())
    assert set(record.paths(geometry.layers)) <= set(modules)
    assert modules[record.words] is model.get_input_embeddings()
    for address in record.addresses(geometry.layers):
        if SITES[address.site] is SiteKind.JUNCTION:
            path = record.norm_path(address, geometry.layers)
            assert path is None or isinstance(modules[path], nn.LayerNorm)


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_the_prefix_is_that_of_checkpoints_of_models_with_a_head(family):
    assert (
        type(builders.backbone(family).model).base_model_prefix == builders.profile(family).geometry.architecture.prefix
    )


def test_families_differ_from_bert_where_they_must():
    assert ROBERTA.positions_after_pad and XLM_ROBERTA.positions_after_pad and not BERT.positions_after_pad
    assert (XLM_ROBERTA.prefix, XLM_ROBERTA.model_type) == ("roberta", "xlm-roberta")
    assert ELECTRA.pooler is None and DISTILBERT.pooler is None
    assert not DISTILBERT.segment_ids


@pytest.mark.parametrize("settings", [{"embedding_size": builders.HIDDEN}, {"embedding_size": 12}])
def test_electra_rows_are_exact_with_and_without_a_projection_of_the_embeddings(settings):
    path = builders.variant("electra", **settings)
    assert builders.apart_from_plain(path) < 1e-5
    words = dict(builders.Backbone.load(path).model.named_parameters())["embeddings.word_embeddings.weight"]
    assert words.shape == torch.Size([builders.VOCABULARY, settings["embedding_size"]])


@pytest.mark.parametrize("member", ["is_decoder", "position_embedding_type"])
def test_what_is_not_an_encoder_with_absolute_positions_is_refused_by_name(member):
    config = {**builders.config_json("bert"), member: "relative_key" if "position" in member else True}
    with pytest.raises(UnknownArchitecture, match=member):
        read_geometry(config)


@pytest.mark.parametrize("family", ["albert", "electra"])
def test_the_map_behind_narrow_word_vectors_is_adapted_for_a_row_alone(family):
    backbone = builders.backbone(family)
    site, module = "model/embed_map", backbone.model.get_submodule(ARCHITECTURES[family].embed_map)
    part = PartSpec("biases", {"sites": {site: {}}})
    package = builders.package(family, [part])
    (resident,) = builders.in_one_arena([fold(package, backbone.profile, torch.float32, backbone.base_maps)])
    text = builders.ids(1, 7)
    with torch.inference_mode():
        bare, adapted = backbone.run(
            [Row((), None, None, text), Row((resident,), None, None, text)], ["hidden_state"] * 2
        )
        frozen = module.bias.clone()
        try:
            module.bias.copy_(package.tensors[f"{site}/bias"])
            (wanted,) = backbone.run([Row((), None, None, text)], ["hidden_state"])
        finally:
            module.bias.copy_(frozen)
        (again,) = backbone.run([Row((), None, None, text)], ["hidden_state"])
    assert (adapted - wanted).abs().max() < 1e-5 < (adapted - bare).abs().max()
    assert torch.allclose(bare, again, atol=1e-6)


@pytest.mark.parametrize("family", ["albert", "electra", "bert"])
def test_there_is_no_such_map_where_word_vectors_are_as_wide_as_the_layers(family):
    geometry = builders.profile(family).geometry
    place = Address(None, "embed_map")
    assert (place in geometry.architecture.addresses(2)) == (family != "bert")
    wide = replace(geometry, embedding_size=geometry.hidden_size)
    assert place not in wide.architecture.addresses(2)
