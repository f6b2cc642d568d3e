import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
import tokenizers

from loadtests.proofs.backbones import TEXTS
from loadtests.proofs.given import Given
from loadtests.proofs.poison import BORNE, INNOCENT, PLANTED, POISON, TOKENS, Seen, _evidence, is_new, turn, unknown
from loadtests.proofs.stage import ROOT
from loadtests.proofs.steady import Sample, Steady

TRY = """
from types import SimpleNamespace
import serving.engine.engine as module
module.Engine.submit.__closure__[0].cell_contents  # what was there is kept
class Engine(module.Engine):
    def __init__(self): self._loop = self
rows = [SimpleNamespace(input_ids=range(n)) for n in {lengths}]
try:
    Engine().submit(rows, None)
except AttributeError:
    print("the real one was called")
"""


def ended(tmp_path, lengths):
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    words = [sys.executable, "-c", TRY.format(lengths=lengths)]
    return subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_engine_dies_of_the_poison_and_of_nothing_else(tmp_path):
    assert ended(tmp_path, [4, TOKENS]).returncode == -signal.SIGKILL
    harmless = ended(tmp_path, [TOKENS - 1, TOKENS + 1])
    assert "the real one was called" in harmless.stdout, harmless.stderr


def test_only_the_poison_has_so_many_tokens(backbone):
    tokenizer = tokenizers.Tokenizer.from_file(str(backbone / "tokenizer.json"))
    assert len(tokenizer.encode(POISON).ids) == TOKENS
    assert all(len(tokenizer.encode(text).ids) != TOKENS for text in (*TEXTS, *unknown(seed=1)))


def test_every_second_request_asks_what_was_always_asked_and_every_other_what_never_was():
    asked = [turn(number) for number in range(1000)]
    texts = (*TEXTS, *unknown(seed=1))
    assert {texts[text] for number, rows in enumerate(asked) if not is_new(number) for text in rows} == set(TEXTS)
    new = [texts[text] for number, rows in enumerate(asked) if is_new(number) for text in rows]
    assert len(new) == len(set(new)) == 1000
    assert not set(new) & set(TEXTS)
    assert unknown(seed=1) == unknown(seed=1) != unknown(seed=2)


def evidence(tmp_path, *, engines=4, refused=6, fault="", innocent=0, others=100, exit_code=0):
    steady = Steady(None, 10.0)
    steady.samples += [Sample(1.0, 0.1, "") for _ in range(others - 1)] + [Sample(1.0, 0.1, fault)]
    steady.samples += [Sample(1.0, 0.1, INNOCENT)] * innocent
    seen = Seen(set(range(engines)), Counter({"422 poisonous_request": refused, "503 x": 6 - refused}), [1.0], steady)
    found = _evidence(Given(tmp_path, quick=True), seen, exit_code)
    return [figure.name for figure in found.broken]


def test_two_engines_and_nobody_else_is_what_was_promised(tmp_path):
    assert evidence(tmp_path) == []
    assert evidence(tmp_path, innocent=BORNE) == []


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"engines": 5}, ["engines lost"]),
        ({"engines": 2}, ["engines lost at least, or nothing was planted"]),
        ({"refused": 5}, ["poisonous requests refused as such"]),
        ({"innocent": BORNE + 1}, ["refused for a text that was new, though innocent"]),
        ({"fault": "422 poisonous_request"}, ["failed or wrong answers of everybody else"]),
        ({"fault": "503 not_ready"}, ["failed or wrong answers of everybody else"]),
        ({"others": 99}, ["answers of everybody else"]),
        ({"exit_code": 1}, ["exit code of the stop"]),
    ],
)
def test_each_breach_breaks_its_figure(tmp_path, change, broken):
    assert evidence(tmp_path, **change) == broken
