import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import Misfit
from adapters.formats import native
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.manifest import Provenance
from adapters.methods.prompt_tuning import BEFORE
from adapters.weights import Package
from tests.adapters.formats.folders import H, peft_folder, profile
from tests.adapters.formats.peft.reading import assert_same
from tests.adapters.formats.peft.test_prompts import HEAD, N
from tests.adapters.formats.peft.test_prompts import config as prompt_config

RANKS, TASKS = 2, 4
SAID = {"num_ranks": RANKS, "num_tasks": TASKS, "prompt_tuning_init": "RANDOM", "prompt_tuning_init_task": 0}
KEYS = {
    "prompt_embeddings": (N, H),
    "prefix_task_cols": (TASKS, N, RANKS),
    "prefix_task_rows": (TASKS, RANKS, H),
    **HEAD,
}


def config(**changes):
    return prompt_config("MULTITASK_PROMPT_TUNING", **SAID | changes)


def folder(path, keys=KEYS, **changes):
    return peft_folder(path, config(**changes), keys)


def stored(path):
    return load_file(path / "adapter_model.safetensors")


def same(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("task", [0, 3])
def test_a_package_is_for_one_task_and_is_written_again_with_all(tmp_path, task):
    source = folder(tmp_path / "in")
    package = peft.read(source, profile(), task_id=task)
    check(package, profile())
    (part,) = package.manifest.parts
    assert part.method == "multitask_prompt"
    assert part.config == {"length": N, "segments": True, "ranks": RANKS, "tasks": TASKS, "task": task}
    assert package.manifest.source["task_id"] == task
    held = stored(source)
    names = {"prompt": "prompt_embeddings", "columns": "prefix_task_cols", "rows": "prefix_task_rows"}
    assert all(torch.equal(package.tensors[f"{BEFORE}/{ours}"], held[theirs]) for ours, theirs in names.items())
    peft.write(native.read(native.write(package)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == config()
    assert same(held, stored(tmp_path / "out"))
    assert_same(package, peft.read(tmp_path / "out", profile(), task_id=task))


def test_a_configuration_of_our_own_reads_as_the_same_part(tmp_path):
    package = peft.read(folder(tmp_path / "in"), profile(), task_id=1)
    lost = Package(replace(package.manifest, provenance=Provenance("chorus", "1"), source={}), package.tensors)
    peft.write(lost, tmp_path / "out")
    back = peft.read(tmp_path / "out", profile(), task_id=1)
    assert back.manifest.parts == package.manifest.parts
    assert same(stored(tmp_path / "in"), stored(tmp_path / "out"))


def test_a_folder_of_one_task_and_one_rank_needs_to_say_neither(tmp_path):
    keys = KEYS | {"prefix_task_cols": (1, N, 1), "prefix_task_rows": (1, 1, H)}
    package = peft.read(folder(tmp_path, keys, num_ranks=None, num_tasks=None), profile())
    assert package.manifest.parts[0].config == {"length": N, "segments": True, "ranks": 1, "tasks": 1, "task": 0}
    assert "task_id" not in package.manifest.source


@pytest.mark.parametrize(
    ("task", "keys", "changes", "reason"),
    [
        (None, KEYS, {}, r"num_tasks is 4: say which task the package is for \(task_id, from 0 to 3\)"),
        (4, KEYS, {}, "task_id is 4, but num_tasks is 4"),
        (0, {k: v for k, v in KEYS.items() if k != "prefix_task_rows"}, {}, "lacks prefix_task_rows"),
        (0, {k: v for k, v in KEYS.items() if k != "prompt_embeddings"}, {}, "lacks prompt_embeddings"),
        (0, KEYS, {"task_type": None}, "MULTITASK_PROMPT_TUNING without a task_type"),
        (0, KEYS, {"new_trick": 1}, "'new_trick' is not known"),
    ],
)
def test_what_names_no_task_or_contradicts_the_tensors_is_refused(tmp_path, task, keys, changes, reason):
    with pytest.raises(Misfit, match=reason):
        peft.read(folder(tmp_path, keys, **changes), profile(), task_id=task)


def test_other_sizes_than_the_configuration_says_are_found_by_the_check(tmp_path):
    package = peft.read(folder(tmp_path, num_ranks=3), profile(), task_id=1)
    with pytest.raises(Misfit, match="columns"):
        check(package, profile())
