from types import SimpleNamespace

import pytest
import torch

from loadtests.peers import adapterhub
from loadtests.peers.contenders import LORA, METHODS, MIXED, SWITCH
from tests.loadtests.peers.fake_libraries import FakeModel


class Hub(FakeModel):
    """A model that AdapterHub has taken over."""

    def load_adapter(self, folder, **options):
        assert options == {"with_head": False, "use_safetensors": True}
        self.names.append("-".join(folder.split("/")[-3::2]))
        return self.names[-1]

    def set_active_adapters(self, block):
        self.asked.append(("active", block))
        self.active = block

    def __call__(self, *, input_ids, attention_mask):
        self.asked.append(("forward", len(input_ids)))
        return self.forward(input_ids, self.active[0] if isinstance(self.active, tuple) else [self.active])


@pytest.fixture
def asked(monkeypatch):
    seen = []
    modules = {
        "adapters": SimpleNamespace(init=lambda model: seen.append(("init",))),
        "adapters.composition": SimpleNamespace(BatchSplit=lambda *names, batch_sizes: (names, batch_sizes)),
    }
    monkeypatch.setattr(adapterhub, "import_module", modules.__getitem__)
    monkeypatch.setattr(adapterhub, "plain_model", lambda work: Hub(seen))
    monkeypatch.setattr(adapterhub, "version", lambda name: f"{name} 1")
    return seen


def test_a_mixed_batch_is_one_pass_with_one_adapter_per_row(work, asked):
    opened = adapterhub.opened(work)
    assert asked == [("init",), ("to", torch.float32), ("eval",)]
    run = opened.runs[MIXED, LORA]
    asked.clear()
    rows = run.rows(run.go())
    names = tuple(f"{LORA}-{number}" for number in range(5))
    assert asked == [("active", (names, [1] * 5)), ("forward", 5)]
    first = 5 * METHODS.index(LORA)
    assert [row[0, 0] for row in rows] == [first + number for number in range(5)]
    assert [len(row) for row in rows] == [len(row) for row in work.rows]


def test_switching_activates_each_rows_adapter_before_its_pass(work, asked):
    run = adapterhub.opened(work).runs[SWITCH, LORA]
    asked.clear()
    rows = run.rows(run.go())
    assert asked == [step for n in range(5) for step in (("active", f"{LORA}-{n}"), ("forward", 1))]
    assert len({row[0, 0] for row in rows}) == 5


def test_all_methods_are_there_with_the_versions_of_what_computes(work, asked):
    opened = adapterhub.opened(work)
    assert opened.runs.keys() == {(way, method) for way in (MIXED, SWITCH) for method in METHODS}
    assert opened.versions["adapters"] == "adapters 1"
