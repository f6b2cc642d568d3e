"""Folders of PEFT's LoRA as the tests of this package make and read them."""

import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.peft import folder as peft
from tests.adapters.formats.folders import CLASSIFIER, attention, peft_config, peft_folder, peft_lora_keys, profile

QV = attention("query", "value")
FEATURE = {"task_type": "FEATURE_EXTRACTION", "modules_to_save": None}


def basic(folder, keys=None, **changes):
    return peft_folder(folder, peft_config(**changes), peft_lora_keys(QV) | CLASSIFIER if keys is None else keys)


def sites(package):
    return package.manifest.parts[0].config["sites"]


def reasons(folder, where=None):
    with pytest.raises(Misfit) as caught:
        peft.read(folder, where or profile())
    return caught.value.reasons


def assert_same(a, b):
    assert a.manifest == b.manifest
    assert set(a.tensors) == set(b.tensors)
    assert all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items())
