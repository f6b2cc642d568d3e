import json
import os
import subprocess
import sys

import pytest

SHARED = 227 << 10  # bytes that a block may have on Hopper


@pytest.mark.parametrize(
    ("dtype", "hidden", "width", "tokens"),
    [
        ("bfloat16", 768, 48, 2048),
        ("bfloat16", 768, 48, 8192),
        ("bfloat16", 384, 256, 4096),
        ("float32", 384, 24, 2048),
    ],
)
def test_every_kernel_compiles_for_an_h200_and_leaves_its_registers_room(dtype, hidden, width, tokens, tmp_path):
    asked = [f"--dtype={dtype}", f"--hidden={hidden}", f"--width={width}", f"--tokens={tokens}"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.kernels.triton.ahead", *asked],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 8
    for kernel in told:
        assert kernel["stack"] <= 16, kernel
        assert kernel["shared"] <= SHARED, kernel
        assert kernel["wide_loads"] > 0, kernel
        multiplies = dtype == "bfloat16" and kernel["kernel"] != "add_norm"
        assert (kernel["products"] > 0) == multiplies, kernel
