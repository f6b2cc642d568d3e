"""The trip itself, with a stand-in for the library's process: planted differences, refusals and crashes are told."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.oracle import run
from tests.oracle.run import trip

DATA = Path(__file__).parents[1] / "conformance" / "data"
CASES = ("bert__seq_bn", "bert__loreft", "head__qa")


@pytest.fixture(autouse=True)
def drawn_cases_alone(monkeypatch):
    """`test_native` tells of the others, which a recorded library can not compute."""
    monkeypatch.setattr(run.native, "usable", lambda case: False)


class Recorded:
    """A library that draws stored cases, and gives their outputs for whatever is loaded, unless it is to be wrong."""

    name = "adapterhub"

    def __init__(self, *, made_off=0.0, loaded_off=0.0, unable=(), broken=()):
        self.made_off, self.loaded_off = made_off, loaded_off
        self.cannot, self.broken = set(unable), set(broken)
        self.drawn = []
        self.loaded = []

    def make(self, root, seeds):
        for name, seed in seeds.items():
            self.drawn.append(seed)
            target = root / self.name / name
            stored = DATA / "adapterhub" / CASES[len(self.drawn) % len(CASES)]
            shutil.copytree(stored, target)
            case = json.loads((target / "case.json").read_text())
            if not (root / "backbones" / name).exists():
                shutil.copytree(DATA / "backbones" / case["backbone"], root / "backbones" / name)
            (target / "case.json").write_text(json.dumps({**case, "backbone": name}))
            self._plant(target, self.made_off)

    def load(self, root, names):
        for name in names:
            self.loaded.append(sorted(path.name for path in (root / self.name / name / "adapters").rglob("*.*")))
            self._plant(root / self.name / name, self.loaded_off)

    def unable(self, root, name):
        stage = self.cannot if root.name == "made" else self.broken
        return "said no" if name in stage else None

    @staticmethod
    def _plant(folder, off):
        path = folder / "expected.safetensors"
        tensors = load_file(path)
        key = "logits" if "logits" in tensors else "hidden_state"
        tensors[key].view(-1)[0] += off
        save_file(tensors, path)


def counts(found):
    stages = ("read", "written")
    kinds = ("passed", "refused", "failed")
    outcomes = [(outcome.stage, outcome.case.outcome) for outcome in found.outcomes]
    return {stage: tuple(outcomes.count((stage, kind)) for kind in kinds) for stage in stages}


def test_what_agrees_passes_at_both_stages_and_was_really_written():
    library = Recorded()
    found = trip(library, 3, 3)
    assert found.good
    assert counts(found) == {"read": (3, 0, 0), "written": (3, 0, 0)}
    assert all("adapter.safetensors" in names for names in library.loaded)


def test_a_difference_in_what_the_library_made_is_found():
    found = trip(Recorded(made_off=1e-3), 3, 3)
    assert not found.good
    assert counts(found)["read"][2] == 3


def test_a_difference_in_what_the_library_computes_from_what_was_written_is_found():
    found = trip(Recorded(loaded_off=1e-3), 3, 3)
    assert not found.good
    assert counts(found) == {"read": (3, 0, 0), "written": (0, 0, 3)}


def test_a_folder_that_the_library_does_not_load_is_a_failure():
    found = trip(Recorded(broken=["s1"]), 3, 3)
    assert counts(found)["written"] == (2, 0, 1)
    assert any("does not load it: said no" in line for line in found.lines())


def test_what_the_library_itself_can_not_run_is_drawn_again_and_counted():
    found = trip(Recorded(unable=["s0", "s2"]), 3, 3)
    assert counts(found)["read"] == (3, 0, 0)
    assert [name for name, _ in found.beyond] == ["s0", "s2"]
    assert "adapterhub itself could not run 2 draws; seed 3" in list(found.lines())


def test_a_refusal_is_told_with_its_reason_and_is_no_success(monkeypatch):
    def refuse(*given):
        raise run.AdapterError("no words for it")

    monkeypatch.setattr(run.writing, "rewrite", refuse)
    found = trip(Recorded(), 3, 1)
    assert counts(found) == {"read": (1, 0, 0), "written": (0, 1, 0)}
    assert any("no words for it" in line for line in found.lines())


def test_a_crash_while_writing_is_a_failure(monkeypatch):
    def crash(*given):
        raise KeyError("lost")

    monkeypatch.setattr(run.writing, "rewrite", crash)
    assert counts(trip(Recorded(), 3, 1))["written"] == (0, 0, 1)


def test_the_same_seed_draws_the_same_cases_and_another_one_others():
    first, again, other = Recorded(), Recorded(), Recorded()
    for library, seed in ((first, 3), (again, 3), (other, 4)):
        trip(library, seed, 2)
    assert first.drawn == again.drawn
    assert not set(first.drawn) & set(other.drawn)


@pytest.mark.parametrize("count", [0])
def test_nothing_compared_is_no_success(count):
    assert not trip(Recorded(), 3, count).good
