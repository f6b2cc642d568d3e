from dataclasses import replace
from types import SimpleNamespace

import pytest

from loadtests.peers import peft
from loadtests.peers.contenders import LORA, MIXED, SWITCH
from tests.loadtests.peers.fake_libraries import FakeModel


class Peft(FakeModel):
    """A model that PEFT has wrapped."""

    @classmethod
    def from_pretrained(cls, model, folder, *, adapter_name, autocast_adapter_dtype):
        made = cls(model.asked)
        made.load_adapter(folder, adapter_name=adapter_name, autocast_adapter_dtype=autocast_adapter_dtype)
        return made

    def load_adapter(self, folder, *, adapter_name, autocast_adapter_dtype):
        assert autocast_adapter_dtype is False
        self.asked.append(("load", "/".join(folder.split("/")[-3:])))
        self.names.append(adapter_name)

    def set_adapter(self, name):
        self.asked.append(("active", name))
        self.active = [name]

    def __call__(self, *, input_ids, attention_mask, adapter_names=None):
        self.asked.append(("forward", adapter_names))
        return self.forward(input_ids, adapter_names or self.active)


@pytest.fixture
def asked(monkeypatch):
    seen = []
    monkeypatch.setattr(peft, "import_module", {"peft": SimpleNamespace(PeftModel=Peft)}.__getitem__)
    monkeypatch.setattr(peft, "plain_model", lambda work: FakeModel(seen))
    monkeypatch.setattr(peft, "version", lambda name: f"{name} 1")
    return seen


@pytest.fixture
def opened(work, asked):
    return peft.opened(replace(work, methods=(LORA,)))


def test_each_adapter_is_loaded_once_from_its_folder(opened, asked):
    assert asked == [*(("load", f"{LORA}/peft/{number}") for number in range(5)), ("eval",)]
    assert opened.runs.keys() == {(MIXED, LORA), (SWITCH, LORA)}
    assert opened.versions == {name: f"{name} 1" for name in ("peft", "transformers", "torch")}


def test_a_mixed_batch_is_one_pass_that_names_an_adapter_per_row(opened, asked, work):
    asked.clear()
    rows = opened.runs[MIXED, LORA].rows(opened.runs[MIXED, LORA].go())
    assert asked == [("forward", [f"{LORA}-{number}" for number in range(5)])]
    assert [row[0, 0] for row in rows] == [0, 1, 2, 3, 4]


def test_switching_sets_each_rows_adapter_before_its_pass(opened, asked):
    asked.clear()
    rows = opened.runs[SWITCH, LORA].rows(opened.runs[SWITCH, LORA].go())
    assert asked == [step for n in range(5) for step in (("active", f"{LORA}-{n}"), ("forward", None))]
    assert [row[0, 0] for row in rows] == [0, 1, 2, 3, 4]
