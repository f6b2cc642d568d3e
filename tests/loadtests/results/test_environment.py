import json
import os
import subprocess
import sys

from loadtests.results.environment import (
    accelerator,
    busy_seconds,
    commit,
    cpu_seconds,
    ended_seconds,
    environment,
    processor,
)


def test_it_tells_hardware_and_versions():
    told = environment()
    assert json.loads(json.dumps(told)) == told
    assert told["cores"] >= 1
    assert told["torch"]
    assert told["memory_gib"] > 0
    assert processor()


def test_work_is_counted_and_grows():
    before = cpu_seconds([os.getpid()]), busy_seconds()
    sum(range(20_000_000))
    after = cpu_seconds([os.getpid()]), busy_seconds()
    assert after[0] > before[0]
    assert after[1] > before[1]


def test_a_process_that_ended_counts_nothing():
    assert cpu_seconds([2**22 + 1]) == 0.0


def test_the_accelerator_is_told_where_the_service_uses_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert accelerator("cpu") == "none"
    assert accelerator("cuda") == "cuda, unknown to nvidia-smi"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho NVIDIA X\necho NVIDIA Y\n")
    program.chmod(0o755)
    assert accelerator("cuda") == "NVIDIA X, NVIDIA Y"


def test_what_a_process_used_is_known_after_its_end():
    before = ended_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True, timeout=60)
    assert ended_seconds() > before


def test_outside_of_a_repository_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr("loadtests.results.environment.ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
