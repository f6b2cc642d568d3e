import torch
from transformers import BertConfig

from adapters.formats import native
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.peft import folder as peft
from loadtests.peers.contenders import BOTTLENECK, DOUBLE, LORA, METHODS
from loadtests.peers.workload import _seeded, make_workload
from tests.loadtests.conftest import TINY


def test_the_same_seed_makes_the_same_work_and_another_one_other_work(tiny_workload, tmp_path):
    again = make_workload(TINY, tmp_path / "again", 5, (LORA,), seed=1)
    other = make_workload(TINY, tmp_path / "other", 5, (LORA,), seed=2)
    assert again.rows == tiny_workload.rows != other.rows
    files = [made.adapters / LORA / "native" / "3.safetensors" for made in (tiny_workload, again, other)]
    first, second, third = (file.read_bytes() for file in files)
    assert first == second != third


def test_rows_hold_words_only(tiny_workload, profile):
    assert len(tiny_workload.rows) == 5
    assert tiny_workload.tokens == sum(map(len, tiny_workload.rows))
    assert all(8 <= len(row) <= 128 for row in tiny_workload.rows)
    assert all(5 <= word < profile.geometry.vocabulary for row in tiny_workload.rows for word in row)


def test_every_format_holds_the_same_adapter_without_a_head(tiny_workload, profile):
    for method in METHODS:
        folder = tiny_workload.adapters / method
        ours = native.read((folder / "native" / "4.safetensors").read_bytes())
        assert ours.manifest.head is None
        others = [adapterhub.read(folder / "adapterhub" / "4", profile)]
        if method == LORA:
            others.append(peft.read(folder / "peft" / "4", profile))
        for other in others:
            assert other.tensors.keys() == ours.tensors.keys()
            assert all(torch.equal(other.tensors[name], tensor) for name, tensor in ours.tensors.items())


def test_all_adapters_are_different(tiny_workload):
    for method in METHODS:
        files = sorted((tiny_workload.adapters / method / "native").iterdir())
        assert len({file.read_bytes() for file in files}) == 5


def test_the_methods_are_those_that_their_names_say(tiny_workload):
    def part(method):
        package = native.read((tiny_workload.adapters / method / "native" / "0.safetensors").read_bytes())
        return package.manifest.parts[0]

    assert {site.split("/")[1] for site in part(BOTTLENECK).config["sites"]} == {"ffn_junction"}
    assert {site.split("/")[1] for site in part(DOUBLE).config["sites"]} == {"attn_junction", "ffn_junction"}
    lora = part(LORA).config["sites"]
    assert {site.split("/")[1] for site in lora} == {"attn_q", "attn_v"}
    assert {(held["rank"], held["scaling"]) for held in lora.values()} == {(8, 2.0)}


def test_a_seeded_backbone_is_made_once(tmp_path):
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    before = torch.random.get_rng_state()
    folder = _seeded(tmp_path / "one", config)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = (folder / "model.safetensors").read_bytes()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert _seeded(folder, config) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert (_seeded(tmp_path / "two", config) / "model.safetensors").read_bytes() == weights
