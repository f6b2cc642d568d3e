import pytest

from loadtests.served.backbones import NoBackbone, backbone, measure
from loadtests.traffic.texts import WORDS
from serving.errors import NotReady
from tests.loadtests.conftest import TINY


def test_the_tiny_one_is_made_and_can_be_measured(tmp_path):
    path = backbone("tiny", tmp_path)
    tokens = measure(path, 48)
    assert (tokens.special, tokens.longest) == (2, 44)
    assert tokens.per_word == 1.0


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert backbone(str(TINY), tmp_path) == TINY
    tokens = measure(TINY, 128)
    assert 1 <= tokens.per_word < 8
    assert len(WORDS) > 40


def test_what_is_no_backbone_is_told(tmp_path):
    with pytest.raises(NoBackbone, match=r"no config\.json there; give a model's folder, tiny or minilm"):
        backbone(str(tmp_path), tmp_path)


def test_an_encoder_that_is_not_installed_names_the_way_out(tmp_path, monkeypatch):
    def absent():
        raise NotReady("the demo's model is not installed")

    monkeypatch.setattr("loadtests.served.backbones.find_model", absent)
    with pytest.raises(NoBackbone, match="or take --backbone tiny"):
        backbone("minilm", tmp_path)
