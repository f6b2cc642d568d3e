import json
from pathlib import Path

import pytest

from loadtests.peers.messages import Work, line, work_of


def test_work_survives_the_way_to_another_process():
    work = Work(Path("/b"), Path("/a"), Path("/c"), ((5, 6), (7,)), ("lora",), "bf16", 2)
    assert work_of(json.loads(line(work.json()))) == work


def test_a_message_is_one_line():
    text = line({"error": "two\nlines"})
    assert text.endswith("\n")
    assert text.count("\n") == 1


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        line({"seconds": float("nan")})
