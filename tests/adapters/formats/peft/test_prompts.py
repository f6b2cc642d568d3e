import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.manifest import Provenance
from adapters.methods.fold import fold
from adapters.methods.prompt_tuning import BEFORE
from adapters.weights import Package
from tests.adapters import builders
from tests.adapters.formats.folders import LAYERS, H, peft_folder, profile
from tests.adapters.formats.peft.reading import assert_same, reasons

N = 3
HEAD = {"base_model.classifier.weight": (3, H), "base_model.classifier.bias": (3,)}
WIDTHS = {"PROMPT_TUNING": H, "P_TUNING": H, "PREFIX_TUNING": 2 * LAYERS * H, "CARTRIDGE": 2 * LAYERS * H}


def config(kind, **changes):
    said = {"peft_type": kind, "peft_version": "0.21.2", "task_type": "SEQ_CLS", "num_virtual_tokens": N}
    return (
        said
        | {"token_dim": H, "num_layers": LAYERS, "num_attention_heads": 2, "num_transformer_submodules": 1}
        | changes
    )


def folder(path, kind, keys=HEAD, **changes):
    return peft_folder(path, config(kind, **changes), {"prompt_embeddings": (N, WIDTHS[kind]), **keys})


def unlabelled(package):
    """The package as if another library had made it, so that the configuration is written anew."""
    return Package(replace(package.manifest, provenance=Provenance("chorus", "1"), source={}), package.tensors)


@pytest.mark.parametrize("kind", WIDTHS)
def test_vectors_and_head_are_read_and_written_as_they_were(tmp_path, kind):
    package = peft.read(folder(tmp_path / "in", kind), profile())
    check(package, profile())
    (part,) = package.manifest.parts
    assert part.config == {"length": N, "segments": True}
    assert part.method == ("past_prefix" if kind in ("PREFIX_TUNING", "CARTRIDGE") else "word_prompt")
    peft.write(package, tmp_path / "out")
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("in", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert_same(package, peft.read(tmp_path / "out", profile()))


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING"])
def test_a_configuration_of_our_own_reads_as_the_same_part(tmp_path, kind):
    package = unlabelled(peft.read(folder(tmp_path / "in", kind), profile()))
    peft.write(package, tmp_path / "out")
    back = peft.read(tmp_path / "out", profile())
    assert back.manifest.parts == package.manifest.parts
    assert (back.manifest.source["adapter_config"]["peft_type"], back.tensors.keys()) == (kind, package.tensors.keys())


def test_models_without_segment_ids_in_peft_are_read_so_and_others_not_written_so(tmp_path):
    plain = folder(tmp_path / "in", "PROMPT_TUNING", {}, task_type="FEATURE_EXTRACTION")
    package = peft.read(plain, profile())
    assert package.manifest.parts[0].config["segments"] is False
    peft.write(unlabelled(package), tmp_path / "out")
    heeding = replace(package.manifest.parts[0], config={"length": N, "segments": True})
    with pytest.raises(Misfit, match="segment ids"):
        peft.write(Package(replace(package.manifest, parts=(heeding,)), package.tensors), tmp_path / "no")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_virtual_tokens": 4}, "num_virtual_tokens is 4, but prompt_embeddings holds 3"),
        ({"task_type": None}, "without a task_type"),
        ({"num_transformer_submodules": 2}, "num_transformer_submodules must be 1"),
        ({"new_trick": 1}, "'new_trick' is not known"),
    ],
)
def test_what_contradicts_the_vectors_or_is_not_known_is_refused(tmp_path, changes, reason):
    assert any(reason in one for one in reasons(folder(tmp_path, "PROMPT_TUNING", **changes)))


@pytest.mark.parametrize(("task", "stacks"), [("SEQ_2_SEQ_LM", 2), ("FEATURE_EXTRACTION", 1)])
def test_an_encoder_decoders_prompt_is_kept_whole_though_the_encoders_alone_runs(tmp_path, task, stacks):
    said = config("PROMPT_TUNING", task_type=task, num_transformer_submodules=stacks)
    stored = peft_folder(tmp_path / "in", said, {"prompt_embeddings": (stacks * N, builders.HIDDEN)})
    where = builders.profile("t5")
    package = peft.read(stored, where)
    check(package, where)
    (block,) = fold(package, where, torch.float32).blocks[BEFORE]
    assert block.spans["prompt"].shape == (N, builders.HIDDEN)
    assert package.manifest.parts[0].config.get("stacks", 1) == stacks
    peft.write(package, tmp_path / "out")
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("in", "out"))
    assert torch.equal(before["prompt_embeddings"], after["prompt_embeddings"])
    peft.write(unlabelled(package), tmp_path / "own")
    assert peft.read(tmp_path / "own", where).manifest.parts == package.manifest.parts


def test_prompts_of_stacks_that_there_are_not_are_refused(tmp_path):
    for stacks in (0.5, 3):
        said = config("PROMPT_TUNING", task_type="SEQ_2_SEQ_LM", num_transformer_submodules=stacks)
        stored = peft_folder(tmp_path / str(stacks), said, {"prompt_embeddings": (N, builders.HIDDEN)})
        found = reasons(stored, builders.profile("t5"))
        assert any("num_transformer_submodules must be 1 or 2" in one for one in found)


def test_other_keys_and_no_vectors_are_refused(tmp_path):
    assert any("no key of PEFT" in one for one in reasons(folder(tmp_path / "a", "P_TUNING", {**HEAD, "x": (2,)})))
    bare = peft_folder(tmp_path / "b", config("P_TUNING"), HEAD)
    assert any("lacks prompt_embeddings" in one for one in reasons(bare))


CONTEXT = {"cpt_token_ids": [5, 6, 7], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 4]}


def test_cpt_is_the_prompt_that_its_tokens_became(tmp_path):
    said = {"task_type": "CAUSAL_LM", "opt_projection_epsilon": 0.2, "opt_weighted_loss_type": "decay", **CONTEXT}
    source = peft_folder(tmp_path / "in", config("CPT", **said), {"prompt_embeddings": (N, H)})
    package = peft.read(source, profile())
    (part,) = package.manifest.parts
    assert (part.method, part.config, package.manifest.head) == ("word_prompt", {"length": N, "segments": False}, None)
    peft.write(package, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == config("CPT", **said)
    before, after = (load_file(path / "adapter_model.safetensors") for path in (source, tmp_path / "out"))
    assert torch.equal(before.pop("prompt_embeddings"), after.pop("prompt_embeddings"))
    assert not before | after


@pytest.mark.parametrize("task", ["SEQ_CLS", "FEATURE_EXTRACTION"])
def test_cpt_for_anything_but_a_language_model_is_refused(tmp_path, task):
    source = peft_folder(tmp_path, config("CPT", task_type=task, **CONTEXT), {"prompt_embeddings": (N, H)})
    assert f"CPT is for the task CAUSAL_LM alone, not for '{task}'" in reasons(source)


@pytest.mark.parametrize("frozen", [0, 1, N])
def test_a_cartridge_is_the_prefix_of_the_same_vectors_however_many_of_them_were_frozen(tmp_path, frozen):
    cartridge = peft.read(folder(tmp_path / "c", "CARTRIDGE", num_frozen_tokens=frozen), profile())
    prefix = peft.read(folder(tmp_path / "p", "PREFIX_TUNING"), profile())
    assert cartridge.manifest.parts == prefix.manifest.parts
    assert all(torch.equal(tensor, prefix.tensors[name]) for name, tensor in cartridge.tensors.items())
    peft.write(cartridge, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (said["peft_type"], said["num_frozen_tokens"]) == ("CARTRIDGE", frozen)


@pytest.mark.parametrize(("frozen", "count"), [(N + 1, N), (-1, N), (True, N), (1.0, N), (1, "three")])
def test_a_cartridge_that_freezes_what_there_is_not_is_refused(tmp_path, frozen, count):
    found = reasons(folder(tmp_path, "CARTRIDGE", num_frozen_tokens=frozen, num_virtual_tokens=count))
    assert any("num_frozen_tokens must be" in one for one in found)
