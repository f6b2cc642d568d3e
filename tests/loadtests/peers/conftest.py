"""Outcomes made up, a tiny workload, and a library that is none."""

import numpy as np
import pytest

from loadtests.peers import workload
from loadtests.peers.agreement import Agreement
from loadtests.peers.contenders import CHORUS, LORA, METHODS, MIXED, PACKED, PADDED, Contender
from loadtests.peers.messages import Work
from loadtests.peers.runs import Opened, Run
from loadtests.peers.standing import Outcome, Standing
from tests.loadtests.conftest import TINY

RIGHT = Agreement(1e-6, 1.0, 1.0, holds=True)
WRONG = Agreement(3.0, 0.2, 0.5, holds=False)


def standing(library, way, method, precision, *seconds, agreed=RIGHT, note=""):
    return Standing(Contender(library, way, method, precision), seconds, agreed, note)


@pytest.fixture
def outcome():
    """Chorus in both precisions, a mixed batch three times as slow in either, and a padded backbone."""
    return Outcome(
        "minilm",
        32,
        1000,
        (
            standing(CHORUS, MIXED, LORA, "fp32", 1.0, 1.0, 2.0),
            standing(CHORUS, PACKED, None, "fp32", 0.5, 0.5, 0.5),
            standing(CHORUS, MIXED, LORA, "bf16", 0.5, 0.5, 0.5),
            standing("peft", MIXED, LORA, "fp32", 3.0, 4.0, 6.0),
            standing("peft", MIXED, LORA, "bf16", 1.0, 1.0, 1.0),
            standing("openvino", PADDED, None, "fp32", 1.0, 1.0, 1.5, note="<notes>"),
        ),
        {CHORUS: {"chorus": "1"}, "peft": {"peft": "0.21.2", "torch": "2.13.0"}, "openvino": {"openvino": "2026"}},
    )


@pytest.fixture(scope="session")
def tiny_workload(tmp_path_factory):
    """Five rows on the smallest BERT, with adapters of all methods in all formats."""
    return workload.make_workload(TINY, tmp_path_factory.mktemp("peers") / "adapters", 5, METHODS, seed=1)


@pytest.fixture
def work(tiny_workload, tmp_path):
    """What a library's process is told of the tiny workload."""
    return Work(tiny_workload.backbone, tiny_workload.adapters, tmp_path, tiny_workload.rows, METHODS, "fp32", 1)


def fake_opened(work):
    """Every row's states are its ids; the run is called `padded`."""
    states = [np.array(row, np.float32)[:, None] for row in work.rows]
    return Opened({"fake": "1"}, {(PADDED, None): Run(lambda: "result", lambda result: states, "a note")})
