import os
import signal
import sys
from contextlib import closing

import pytest

from loadtests.peers.process import PeerFailed, PeerProcess

ECHO = "import sys\nfor text in sys.stdin: print(text, end='', flush=True)"
CORES = """
import json, os, sys, threading
found = []
thread = threading.Thread(target=lambda: found.extend(os.sched_getaffinity(0)))
sys.stdin.readline()
thread.start(); thread.join()
print(json.dumps({"cores": found, "said": os.environ["SAID"]}), flush=True)
"""


@pytest.fixture
def start(tmp_path):
    def started(code, **environment):
        return closing(PeerProcess("peer fp32", [sys.executable, "-c", code], environment, [0], tmp_path / "peer.log"))

    return started


def test_questions_are_answered_in_turn_however_long(start):
    with start(ECHO) as process:
        assert process.ask({"number": 1}) == {"number": 1}
        assert process.ask({"number": list(range(100_000))}) == {"number": list(range(100_000))}


def test_it_runs_on_the_cores_and_in_the_environment_that_it_is_given(start):
    with start(CORES, SAID="yes") as process:
        assert process.ask({}) == {"cores": [0], "said": "yes"}


def test_an_error_names_the_library_and_where_there_is_more(start, tmp_path):
    with (
        start('input(); print(\'{"error": "ValueError: no"}\', flush=True)') as process,
        pytest.raises(PeerFailed) as f,
    ):
        process.ask({})
    assert str(f.value) == f"peer fp32: ValueError: no (more in {tmp_path / 'peer.log'})"


def test_a_process_that_dies_is_told_with_its_last_words(start):
    with start("import sys; input(); sys.exit('out of luck')") as process:
        with pytest.raises(PeerFailed, match="ended; it last said: out of luck"):
            process.ask({})
        with pytest.raises(PeerFailed, match="ended"):
            process.ask({})


def test_half_a_line_is_no_answer(start):
    with start("input(); print('{}', end='', flush=True)") as process, pytest.raises(PeerFailed, match="ended"):
        process.ask({})


def test_silence_has_an_end(start):
    with start("input(); input()") as process, pytest.raises(PeerFailed, match=r"no answer within 0\.05 s"):
        process.ask({}, patience_s=0.05)


def test_closing_ends_the_process_also_one_that_does_not_listen(start, monkeypatch):
    monkeypatch.setattr("loadtests.peers.process.ENDING_S", 0.05)
    with start("import sys, time\nprint(input(), flush=True)\ntime.sleep(600)") as process:
        process.ask({})
        pid = process._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
