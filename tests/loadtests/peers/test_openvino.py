import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from loadtests.peers import openvino
from loadtests.peers.contenders import PADDED, SORTED


class Core:
    """Runs nothing: states are ids; `made` holds what was asked."""

    def __init__(self, made):
        self.made = made

    def set_property(self, settings):
        self.made.append(settings)

    def compile_model(self, graph, device, settings):
        self.made.append((graph, device, settings))
        return self

    def create_infer_request(self):
        return self

    def infer(self, inputs, *, share_inputs):
        assert share_inputs
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape
        return {0: inputs["input_ids"][..., None].astype(np.float32)}


@pytest.fixture
def made(monkeypatch):
    asked = []

    def save_model(graph, file, *, compress_to_fp16):
        assert compress_to_fp16 is False
        asked.append(("converted", graph))
        Path(file).touch()
        Path(file).with_suffix(".bin").touch()

    def convert_model(model, *, example_input):
        assert example_input.keys() == {"input_ids", "attention_mask"}
        return {tensor.dtype.itemsize for tensor in model.parameters()}

    library = SimpleNamespace(Core=lambda: Core(asked), save_model=save_model, convert_model=convert_model)
    monkeypatch.setattr(openvino, "_imported", lambda: library)
    monkeypatch.setattr(openvino, "version", lambda name: "1")
    return asked


def test_the_model_is_converted_once_from_float32_whatever_the_precision(work, made):
    openvino.opened(replace(work, precision="bf16"))
    openvino.opened(work)
    assert [step for step in made if "converted" in step] == [("converted", {4})]
    assert sorted(path.name for path in work.converted.glob("openvino-*")) == [
        "openvino-1-1-1.bin",
        "openvino-1-1-1.xml",
    ]
    assert list(work.converted.glob("half-*")) == []


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16")])
def test_it_is_compiled_for_the_precision_and_the_threads_of_all(work, made, precision, hint):
    openvino.opened(replace(work, precision=precision, threads=2))
    graph, device, settings = made[-1]
    assert graph.endswith("openvino-1-1-1.xml")
    assert device == "CPU"
    assert settings["INFERENCE_PRECISION_HINT"] == hint
    assert settings["INFERENCE_NUM_THREADS"] == "2"


@pytest.mark.parametrize("way", [PADDED, SORTED])
def test_rows_come_back_in_their_order(work, made, way):
    run = openvino.opened(work).runs[way, None]
    assert [tuple(row[:, 0].astype(int)) for row in run.rows(run.go())] == list(work.rows)


def test_what_reports_imports_elsewhere_can_not_be_imported(monkeypatch):
    for name in ("openvino_telemetry", "openvino_telemetry.backend"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setattr(openvino, "import_module", lambda name: name)
    assert openvino._imported() == "openvino"
    with pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401
