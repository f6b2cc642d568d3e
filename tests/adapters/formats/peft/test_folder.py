import json

import pytest

from adapters.errors import UnsafeFile
from adapters.formats import native
from adapters.formats.check import check
from adapters.formats.labels import UNNAMED
from adapters.formats.peft import folder as peft
from tests.adapters.formats.folders import (
    profile,
)
from tests.adapters.formats.peft.reading import assert_same, basic, sites


def test_lora_with_its_head_reads_fits_and_round_trips(tmp_path):
    package = peft.read(basic(tmp_path / "in"), profile())
    assert sites(package)["1/attn_v"] == {"rank": 2, "scaling": 8.0, "bias": False}
    assert (package.manifest.head.pooling, package.manifest.head.layers) == ("pooler", 1)
    check(package, profile())
    assert_same(package, native.read(native.write(package)))
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    assert (
        json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == package.manifest.source["adapter_config"]
    )


def test_labels_and_problem_type_come_from_the_operator(tmp_path):
    folder = basic(tmp_path)
    silent = peft.read(folder, profile())
    assert silent.manifest.head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert silent.manifest.source["warnings"] == [UNNAMED]
    told = peft.read(folder, profile(), labels=["a", "b", "c"], problem_type="multi_label")
    assert told.manifest.head.labels == ("a", "b", "c")
    assert told.manifest.head.problem_type == "multi_label"
    assert told.manifest.source["warnings"] == []


def test_a_pickle_is_refused(tmp_path):
    folder = basic(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UnsafeFile, match="chorus convert"):
        peft.read(folder, profile())
