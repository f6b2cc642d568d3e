import json
import subprocess
import sys

import pytest

from adapters.architectures.profile import BackboneProfile, read_geometry, read_profile
from adapters.errors import UnknownArchitecture
from tests.adapters import builders


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_the_profile_agrees_with_the_live_model(family):
    profile, model = builders.profile(family), builders.backbone(family).model
    geometry = profile.geometry
    assert geometry.model_type == family
    assert geometry.hidden_size == builders.HIDDEN == model.config.hidden_size
    assert geometry.vocabulary == model.get_input_embeddings().weight.shape[0]
    assert profile.has_pooler == (family != "distilbert")
    positions = model.embeddings.position_embeddings.weight.shape[0]
    assert geometry.max_tokens == positions - (2 if family == "roberta" else 0)


def test_the_digest_changes_with_one_weight_and_with_the_configuration(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((builders.folder("bert") / name).read_bytes())
    digest = read_profile(tmp_path).digest
    assert digest == builders.profile("bert").digest
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert read_profile(tmp_path).digest != digest


def test_json_reads_back():
    profile = builders.profile("roberta")
    assert BackboneProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_a_folder_without_a_model_is_refused_by_name(tmp_path):
    with pytest.raises(UnknownArchitecture, match=r"config\.json"):
        read_profile(tmp_path)
    with pytest.raises(UnknownArchitecture, match="hidden_size"):
        read_geometry({"model_type": "bert", "max_position_embeddings": 5})
    with pytest.raises(UnknownArchitecture, match="no record for model type 'gpt2'"):
        read_geometry({"model_type": "gpt2"})


def test_reading_a_profile_needs_no_torch():
    code = (
        "import sys; from pathlib import Path; from adapters.architectures.profile import read_profile; "
        f"read_profile(Path({str(builders.folder('bert'))!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=builders.__file__.split("/tests/")[0])
