from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loadtests.peers import onnxruntime
from loadtests.peers.contenders import PADDED, SORTED
from loadtests.peers.onnxruntime import LastStates, example
from loadtests.peers.torch_models import plain_model


class Session:
    """Runs nothing: states are ids; `made` holds what sessions were made with."""

    def __init__(self, made, graph, options, providers):
        made.append((graph, options, providers))

    def run(self, outputs, inputs):
        assert outputs is None
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape
        return [inputs["input_ids"][..., None].astype(np.float32)]


@pytest.fixture
def made(monkeypatch):
    sessions, exported = [], []
    library = SimpleNamespace(
        SessionOptions=SimpleNamespace,
        InferenceSession=lambda *given, **named: Session(sessions, *given, **named),
    )
    monkeypatch.setattr(onnxruntime, "import_module", {"onnxruntime": library}.__getitem__)
    monkeypatch.setattr(onnxruntime, "version", lambda name: "1")
    monkeypatch.setattr(onnxruntime, "_export", lambda work, graph: (exported.append(graph), graph.touch()))
    return sessions, exported


def test_the_graph_is_exported_once_and_runs_on_the_threads_of_all(work, made):
    sessions, exported = made
    onnxruntime.opened(work)
    onnxruntime.opened(work)
    assert exported == [work.converted / "onnx-1-1.onnx"]
    (graph, options, providers), _ = sessions
    assert graph == str(exported[0])
    assert vars(options) == {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
    assert providers == ["CPUExecutionProvider"]


@pytest.mark.parametrize("way", [PADDED, SORTED])
def test_rows_come_back_in_their_order(work, made, way):
    run = onnxruntime.opened(work).runs[way, None]
    assert [tuple(row[:, 0].astype(int)) for row in run.rows(run.go())] == list(work.rows)


def test_what_is_exported_gives_the_last_states_of_the_example(work):
    model = plain_model(work)
    ids, mask = example()
    assert 1 not in ids.shape
    with torch.inference_mode():
        found = LastStates(model)(ids, mask)
        assert torch.equal(found, model(input_ids=ids, attention_mask=mask).last_hidden_state)
    assert mask.sum() < mask.numel()  # a graph traced without padding might not heed the mask
