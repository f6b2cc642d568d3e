from pathlib import Path

from loadtests.proofs.given import Given, hardware


def test_a_quick_run_is_of_another_size():
    assert Given(Path()).sized("whole", "quick") == "whole"
    assert Given(Path(), quick=True).sized("whole", "quick") == "quick"


def test_the_machine_is_told():
    told = hardware()
    assert told["cores"] >= 1
    assert told["memory_bytes"] > 1 << 28
