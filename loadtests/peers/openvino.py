"""OpenVINO: the backbone alone, converted from torch."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.peers.contenders import BF16, FP32
from loadtests.peers.messages import Work
from loadtests.peers.onnxruntime import LastStates, example
from loadtests.peers.padding import Batch
from loadtests.peers.runs import Opened, Run, bare_runs, over
from loadtests.peers.torch_models import plain_model

HINTS = {FP32: "f32", BF16: "bf16"}


def opened(work: Work) -> Opened:
    """Convert the model from its float32 weights, unless an earlier run did, and compile it for the precision."""
    library = _imported()
    versions = {name: version(name) for name in ("openvino", "torch", "transformers")}
    graph = work.converted / f"openvino-{'-'.join(versions.values())}.xml"
    if not graph.is_file():
        _convert(library, work, graph)
    core = library.Core()
    core.set_property({"ENABLE_MMAP": False})  # as in `torch_models`: no pages of a file
    # Two streams of one thread each were measured, too: between 4 % quicker and slower.
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(work.threads),
        "INFERENCE_PRECISION_HINT": HINTS[work.precision],
    }
    request = core.compile_model(str(graph), "CPU", settings).create_infer_request()

    def run(batches: Sequence[Batch], note: str) -> Run:
        def forward(number: int) -> Any:
            batch = batches[number]
            return request.infer({"input_ids": batch.ids, "attention_mask": batch.mask}, share_inputs=True)[0]

        return over(batches, forward, np.asarray, note)

    return Opened(versions, bare_runs(work.rows, run))


def _imported() -> Any:
    """The library, which would tell its maker's analytics that it was imported: what it reports with is not found."""
    sys.modules.update({"openvino_telemetry": None, "openvino_telemetry.backend": None})  # type: ignore[dict-item]  # None stops an import
    return import_module("openvino")


def _convert(library: Any, work: Work, graph: Path) -> None:
    ids, mask = example()
    model = LastStates(plain_model(work, FP32)).eval()
    converted = library.convert_model(model, example_input={"input_ids": ids, "attention_mask": mask})
    half = graph.with_name(f"half-{os.getpid()}.xml")
    library.save_model(converted, str(half), compress_to_fp16=False)
    half.with_suffix(".bin").rename(graph.with_suffix(".bin"))
    half.rename(graph)
