import numpy as np
import pytest
import torch

from adapters.architectures.families import architecture_of
from adapters.backbone import Backbone
from adapters.batch.rows import Row, image_ids
from adapters.manifest import PartSpec
from adapters.methods.fold import fold
from adapters.methods.tables import ADDED
from adapters.weights import alone
from tests.adapters import builders
from tests.adapters.builders import FAMILIES

TABLED = [family for family in (*FAMILIES, *builders.SEQ2SEQ) if architecture_of(family).addends]


def tables_of(family):
    """The tables that the tiny model has, site -> module's path."""
    geometry = builders.profile(family).geometry
    return {site: path for site, path in geometry.architecture.addends.items() if site in ADDED and geometry.rows(site)}


@pytest.mark.parametrize("family", [family for family in TABLED if tables_of(family)])
def test_an_adapters_tables_are_those_of_a_model_that_has_them_for_its_own(family):
    backbone = builders.backbone(family)
    part = PartSpec("tables", {"sites": {f"model/{site}": {} for site in tables_of(family)}})
    package = builders.package(family, [part])
    changed = builders.changed(
        builders.folder(family),
        {f"{path}.weight": package.tensors[f"model/{site}/rows"] for site, path in tables_of(family).items()},
    )
    own = alone(fold(package, backbone.profile, torch.float32, backbone.base_maps))
    (other,) = builders.in_one_arena([builders.adapter(family, [builders.PARTS["word_rows"]])])
    rows = []
    for seed, (member, length) in enumerate([(own, 7), (None, 9), (other, 5), (own, 12)]):
        types = np.arange(length) % max(backbone.profile.geometry.type_vocabulary, 1)
        rows.append(Row(() if member is None else (member,), None, None, builders.ids(seed, length), types))
    together = backbone.run(rows, ["hidden_state"] * 4)
    for place, row in enumerate(rows):
        bare = Row((), None, None, row.input_ids, row.type_ids)
        (wanted,) = {0: changed, 3: changed}.get(place, backbone).run([bare if place != 2 else row], ["hidden_state"])
        assert (together[place] - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    (plain,) = backbone.run([Row((), None, None, rows[0].input_ids, rows[0].type_ids)], ["hidden_state"])
    assert (plain - together[0]).abs().max() > 1e-2


@pytest.mark.parametrize("prompted", [False, True])
def test_the_bias_of_patches_is_in_every_token_but_that_of_the_class(prompted):
    backbone, changed = builders.backbone("vit"), Backbone.load(builders.folder("vit"))
    package = builders.package("vit", [PartSpec("biases", {"sites": {"model/patches": {}, "0/attn_q": {}}})])
    changed.model.embeddings.patch_embeddings.projection.bias.data = package.tensors["model/patches/bias"]
    changed.model.get_submodule("layers.0.attention.q_proj").bias.data = package.tensors["0/attn_q/bias"]
    held = [fold(package, backbone.profile, torch.float32, backbone.base_maps)]
    held.append(builders.adapter("vit", [builders.PARTS["prompt"] if prompted else builders.lora()]))
    own, other = builders.in_one_arena(held)
    shape, ids = (3, 2, 8, 12), image_ids(backbone.profile.geometry)
    pictures = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    rows = [Row(m, None, None, ids, pixels=p) for m, p in zip([(own,), (other,), ()], pictures, strict=True)]
    found = backbone.run(rows, ["hidden_state"] * 3)
    (wanted,) = changed.run([Row((), None, None, ids, pixels=pictures[0])], ["hidden_state"])
    assert (found[0] - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    for row, state in zip(rows[1:], found[1:], strict=True):
        assert torch.allclose(state, backbone.run([row], ["hidden_state"])[0], atol=1e-5)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_both_stacks_of_an_encoder_decoder_read_an_adapters_rows(family):
    path = builders.variant("bart", scale_embedding=True) if family == "bart" else builders.folder(family)
    backbone, changed = Backbone.load(path), Backbone.load(path)
    tokens = [40, 7, 55]
    package = builders.package(family, [PartSpec("word_rows", {"tokens": tokens})])
    changed.model.get_submodule("shared").weight.data[tokens] = package.tensors["model/words/rows"]
    changed._words[tokens] = package.tensors["model/words/rows"]
    own = alone(fold(package, backbone.profile, torch.float32, backbone.base_maps))
    given, target = np.array([3, 7, 9, 40]), np.array([2, 55, 8])
    rows = [Row((own,), None, None, given, decoder_ids=target), Row((), None, None, given, decoder_ids=target)]
    for want in ("hidden_state", "encoder_hidden_state"):
        found = backbone.run([*rows, rows[0]], [want] * 3)
        (theirs,), (bare,) = changed.run(rows[1:], [want]), backbone.run(rows[1:], [want])
        for state, wanted in zip(found, (theirs, bare, theirs), strict=True):
            assert (state - wanted).abs().max() <= 1e-5 * wanted.abs().max()
        assert (theirs - bare).abs().max() > 1e-2
