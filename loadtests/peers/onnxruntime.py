"""ONNX Runtime: the backbone alone, as a graph exported by torch."""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from loadtests.peers.messages import Work
from loadtests.peers.padding import Batch
from loadtests.peers.runs import Opened, Run, bare_runs, over
from loadtests.peers.torch_models import plain_model


class LastStates(nn.Module):
    """A model whose forward takes and gives tensors only, as exporters want it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask [rows, length] -> last hidden states [rows, length, hidden]."""
        states: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def opened(work: Work) -> Opened:
    """Export the graph, unless an earlier run did, and load it."""
    library = import_module("onnxruntime")
    versions = {name: version(name) for name in ("onnxruntime", "onnx", "torch", "transformers")}
    graph = work.converted / f"onnx-{versions['torch']}-{versions['transformers']}.onnx"
    if not graph.is_file():
        _export(work, graph)
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = work.threads, 1
    session = library.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def run(batches: Sequence[Batch], note: str) -> Run:
        def forward(number: int) -> Any:
            batch = batches[number]
            return session.run(None, {"input_ids": batch.ids, "attention_mask": batch.mask})[0]

        return over(batches, forward, np.asarray, note)

    return Opened(versions, bare_runs(work.rows, run))


def example() -> tuple[Tensor, Tensor]:
    """Ids and mask to trace a model with; neither size is 1, which an exporter would take for a constant."""
    mask = torch.ones(2, 8, dtype=torch.int64)
    mask[1, 5:] = 0
    return torch.full((2, 8), 5, dtype=torch.int64), mask


def _export(work: Work, graph: Path) -> None:
    sizes = {0: Dim("rows"), 1: Dim("length")}
    with torch.inference_mode():
        program = torch.onnx.export(
            LastStates(plain_model(work)).eval(),
            example(),
            input_names=["input_ids", "attention_mask"],
            output_names=["states"],
            dynamic_shapes=(sizes, sizes),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    half = graph.with_suffix(f".{os.getpid()}")
    program.save(half, external_data=False)
    half.rename(graph)
