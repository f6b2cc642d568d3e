"""Limits are for good: every one of these runs in a process of its own."""

import subprocess
import sys

SCRIPT = """
import resource, sys, tempfile
from pathlib import Path
from serving.registry.confinement import Confinement
folder = Path(sys.argv[1])
confinement = Confinement.begin(64 << 20, folder)

def takes(megabytes):
    try:
        bytearray(megabytes << 20)
        return True
    except MemoryError:
        return False
"""


def run(tmp_path, *lines):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + "\n".join(lines), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_check_may_use_so_much_and_no_more(tmp_path):
    assert run(tmp_path, "print(takes(32), takes(96))") == ["True", "False"]


def test_a_backbone_is_loaded_beside_it_and_then_a_check_may_use_as_much_as_before(tmp_path):
    told = run(
        tmp_path,
        "with confinement.loading():",
        "    held = bytearray(512 << 20)",
        "print(takes(32), takes(96))",
    )
    assert told == ["True", "False"]


def test_the_allowance_grows_with_the_weights_in_the_folder(tmp_path):
    hard = "print(resource.getrlimit(resource.RLIMIT_DATA)[1] - resource.getrlimit(resource.RLIMIT_DATA)[0])"
    before = int(run(tmp_path, hard)[0])
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(100 << 20)
    assert int(run(tmp_path, hard)[0]) - before == 400 << 20


def test_no_file_is_written_and_no_core_dumped(tmp_path):
    told = run(
        tmp_path,
        "try:",
        "    Path(sys.argv[1], 'out').write_text('x' * 10)",
        "except OSError as error:",
        "    print(error.errno)",
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0])",
    )
    assert told == ["27", "0"]  # EFBIG
