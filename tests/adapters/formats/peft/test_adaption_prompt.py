import json

import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.manifest import PartSpec
from adapters.weights import Package
from tests.adapters import builders
from tests.adapters.builders import HIDDEN
from tests.adapters.formats.folders import peft_folder
from tests.adapters.formats.peft.reading import reasons
from tests.adapters.formats.peft.test_prompts import unlabelled

N = 3
PATHS = {"llama": "model.layers.{}.self_attn", "mistral": "model.layers.{}.self_attn", "gpt2": "transformer.h.{}.attn"}


def config(family="llama", count=1, **changes):
    said = {"peft_type": "ADAPTION_PROMPT", "peft_version": "0.21.2", "task_type": "CAUSAL_LM", "inference_mode": True}
    own = {"adapter_len": N, "adapter_layers": count, "target_modules": PATHS[family].rpartition(".")[2]}
    return said | own | changes


def keys(family="llama", layers=(1,)):
    paths = [f"base_model.model.{PATHS[family].format(layer)}" for layer in layers]
    return {f"{p}.adaption_{n}": s for p in paths for n, s in (("prompt", (1, N, HIDDEN)), ("gate", (1,)))}


@pytest.mark.parametrize("family", PATHS)
@pytest.mark.parametrize(("count", "layers"), [(1, [1]), (2, [0, 1]), (0, [0, 1]), (-1, [1])])
def test_the_top_layers_are_read_and_written_as_they_were(tmp_path, family, count, layers):
    source = peft_folder(tmp_path / "in", config(family, count), keys(family, layers))
    where = builders.profile(family)
    package = peft.read(source, where)
    check(package, where)
    assert package.manifest.parts == (PartSpec("adaption_prompt", {"length": N, "layers": layers}),)
    peft.write(package, tmp_path / "out")
    before, after = (load_file(path / "adapter_model.safetensors") for path in (source, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == config(family, count)
    peft.write(unlabelled(package), tmp_path / "own")
    assert peft.read(tmp_path / "own", where).manifest.parts == package.manifest.parts


@pytest.mark.parametrize(
    ("changes", "layers", "reason"),
    [
        ({"adapter_layers": 2}, (1,), "lacks the prompt or the gate of model.layers.0.self_attn"),
        ({}, (0, 1), "belongs to no layer that adapter_layers names"),
        ({"adapter_layers": 3}, (0, 1), "adapter_layers is 3, but the backbone has 2 layers"),
        ({"adapter_len": 4}, (1,), "adapter_len is 4, but"),
        ({"adapter_len": None}, (1,), "adapter_len must be an integer, not None"),
        ({"adapter_layers": True}, (1,), "adapter_layers must be an integer, not True"),
        ({"target_modules": "mlp"}, (1,), "target_modules must be 'self_attn', not 'mlp'"),
        ({"new_trick": 1}, (1,), "'new_trick' is not known"),
    ],
)
def test_what_contradicts_the_prompts_or_is_not_known_is_refused(tmp_path, changes, layers, reason):
    source = peft_folder(tmp_path, config(**changes), keys(layers=layers))
    assert any(reason in one for one in reasons(source, builders.profile("llama")))


def test_layers_that_peft_can_not_name_are_not_written(tmp_path):
    package = builders.package("llama", [PartSpec("adaption_prompt", {"length": N, "layers": [0]})])
    with pytest.raises(Misfit, match="top layers alone"):
        peft.write(Package(package.manifest, package.tensors), tmp_path)
