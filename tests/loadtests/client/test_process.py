import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from loadtests.client.crew import ROOT, read
from loadtests.client.plan import FAILED, Sample
from loadtests.client.process import progress, telling, write
from loadtests.client.sending import Sender
from tests.loadtests.client.test_sending import PLAN
from tests.loadtests.fake import sample


def test_it_says_ready_then_how_far_it_is_and_its_lag_and_writes_its_samples(tmp_path):
    plan = replace(PLAN, written=str(tmp_path / "samples"))  # nobody answers at port 1
    told = f"{json.dumps(asdict(plan))}\n{time.monotonic()}\n"
    words = [sys.executable, "-m", "loadtests.client.process"]
    done = subprocess.run(words, cwd=ROOT, input=told, capture_output=True, text=True, timeout=120, check=True)
    first, *rest = done.stdout.splitlines()
    assert first == "ready"
    *heard, last = map(json.loads, rest)
    assert heard[-1] == {"done": {FAILED: 3}}
    assert last["lag"]["sent_max"] >= last["lag"]["sent_p99"] >= 0
    assert [one.verdict for one in read(tmp_path / "samples", Sample)] == [FAILED] * 3


def test_a_client_process_brings_no_torch():
    code = "import sys, loadtests.client.process, loadtests.client.publisher; assert not {'torch', 'ray', 'aiohttp'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_what_is_written_reads_back(tmp_path):
    samples = [sample(0.25, tiers=("device", "host")), sample(verdict="late", status=0)]
    write(str(tmp_path / "x"), samples)
    assert read(tmp_path / "x", Sample) == samples


def test_it_tells_at_the_end_even_where_the_work_was_short(capsys):
    async def nothing():
        pass

    asyncio.run(telling(nothing(), lambda: {"done": 1}, 60.0))
    assert json.loads(capsys.readouterr().out) == {"done": 1}


def test_work_that_breaks_is_not_hidden_by_telling():
    async def broken():
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        asyncio.run(telling(broken(), dict, 60.0))


def test_progress_is_by_verdict():
    sender = Sender(PLAN)
    sender.samples += [sample(), sample(), sample(verdict="late")]
    assert progress(sender) == {"done": {"right": 2, "late": 1}}
