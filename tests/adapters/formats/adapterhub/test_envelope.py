from dataclasses import replace

import pytest

from adapters.errors import Misfit, UnknownArchitecture
from adapters.formats.adapterhub.envelope import envelope, made_for, origin, requires
from adapters.manifest import Manifest
from tests.adapters.formats.folders import profile, saved


def test_what_a_folder_was_made_for_is_the_backbone_or_refused_with_every_reason():
    assert requires(saved({}), profile()) == made_for(profile())
    with pytest.raises(Misfit) as caught:
        requires(saved({}, "roberta"), profile(hidden=16))
    assert len(caught.value.reasons) == 2
    with pytest.raises(Misfit, match="'gptj' are not served yet"):
        requires(saved({}, "gptj"), profile("gptj"))


def test_where_it_comes_from():
    found = origin(saved({}))
    assert (found.library, found.version, found.source_id) == ("adapterhub", "adapters.1.3.0", "tiny")
    assert origin({"model_name": None}).source_id == ""


def test_what_is_written_reads_as_made_for_the_same_backbone():
    manifest = Manifest("head", made_for(profile("electra")))
    assert requires(envelope(manifest, "a"), profile("electra")) == manifest.requires


def test_what_is_written_names_the_class_of_its_family_and_refuses_an_unknown_one():
    for family, name in (("electra", "ElectraAdapterModel"), ("modernbert", "ModernBertModel")):
        assert envelope(Manifest("head", made_for(profile(family))), "a")["model_class"] == name
    with pytest.raises(UnknownArchitecture, match="gptj"):
        envelope(Manifest("head", replace(made_for(profile()), model_type="gptj")), "a")
