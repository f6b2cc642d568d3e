"""The faults do what they say in another process, which Python's own start-up hook plants them into."""

import os
import subprocess
import sys

import pytest

from loadtests.proofs.planted import FAULTS, hook
from loadtests.proofs.stage import ROOT

CHURN = (
    "from pathlib import Path; from tests.serving.engine.test_fingerprints import churn; print(churn(Path({!r}))[0])"
)
BY_NAME = """
import sys
import adapters.cache.lru
from adapters.refs import AdapterRef
ref = AdapterRef("ada", "x", 1, "sha256:1")
assert "torch" not in sys.modules
before = ref.key
import adapters.cache.device
print(before, ref.key)
"""


def python(code, *path):
    """What a fresh process prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("fault", FAULTS)
def test_an_engine_with_the_fault_gives_wrong_answers(tmp_path, fault):
    assert int(python(CHURN.format(str(tmp_path / "data")), hook(tmp_path / "hook", fault))) > 0


def test_a_process_that_is_no_engine_is_left_as_it_is(tmp_path):
    told = python(BY_NAME, hook(tmp_path / "hook", "cached-by-name"))
    assert told == "('ada', 'sha256:1') ('', 'x')"


def test_an_unknown_fault_is_refused(tmp_path):
    with pytest.raises(KeyError):
        hook(tmp_path / "hook", "none of them")
    assert not (tmp_path / "hook").exists()
