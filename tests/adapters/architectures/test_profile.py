import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.errors import UnknownArchitecture
from tests.adapters import builders


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_the_profile_agrees_with_the_live_model(family):
    profile, model = builders.profile(family), builders.backbone(family).model
    geometry = profile.geometry
    assert geometry.model_type == family
    assert geometry.hidden_size == builders.HIDDEN == model.config.hidden_size
    assert geometry.vocabulary == model.get_input_embeddings().weight.shape[0]
    assert profile.has_pooler == (family in ("bert", "roberta", "xlm-roberta", "albert"))
    assert geometry.embedding_size == model.get_input_embeddings().weight.shape[1]
    positions = model.config.max_position_embeddings
    assert geometry.max_tokens == positions - (2 if family in ("roberta", "xlm-roberta") else 0)
    assert geometry.type_vocabulary == (getattr(model.config, "type_vocab_size", 0) if family != "distilbert" else 0)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_pooler_is_known_from_the_checkpoint_with_and_without_the_prefix(family, tmp_path):
    weights = load_file(builders.folder(family) / "model.safetensors")
    (tmp_path / "config.json").write_bytes((builders.folder(family) / "config.json").read_bytes())
    for prefix, kept, held in (("", "", True), (f"{family}.", "", True), ("", "pooler", False), ("cls.", "", False)):
        named = {prefix + name: tensor for name, tensor in weights.items() if not kept or not name.startswith(kept)}
        save_file(named, tmp_path / "model.safetensors")
        assert read_profile(tmp_path).has_pooler == held


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


def test_reading_a_profile_needs_no_torch():
    code = (
        "import sys; from pathlib import Path; from adapters.architectures.profile import read_profile; "
        f"read_profile(Path({str(builders.folder('bert'))!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=builders.__file__.split("/tests/")[0])
