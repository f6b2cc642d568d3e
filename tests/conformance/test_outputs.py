"""Every kind of output and arrangement is really compared: one wrong number, word, task, fusion or setup fails."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conformance.copies import change, copied, outcome


@pytest.mark.parametrize(
    ("case", "output"),
    [
        ("head__qa", "start_logits"),
        ("head__qa", "end_logits"),
        ("head__dep", "arc_preds"),
        ("head__dep", "rel_preds"),
        ("head__multiple_choice", "logits"),
        ("head__masked_lm_inv", "logits"),
        ("parallel__bn_heads", "head_output__1__logits"),
        ("parallel__bn_heads", "hidden_state"),
        ("mtl_lora", "logits"),
        ("split__bn", "hidden_state"),
        ("average__lora", "logits"),
        ("setup__fuse", "logits"),
    ],
)
def test_one_wrong_number_fails_every_kind_of_output(tmp_path, case, output):
    root = copied(tmp_path, f"adapterhub/{case}")
    change(root, f"adapterhub/{case}", **{output: lambda t: t.index_put_((torch.tensor(-1),), t[-1] + 1e-2)})
    found = outcome(root)
    assert found.outcome == "failed"
    assert f"{output.replace('__', '.')}: off by 0.01" in found.reason


def test_padded_words_are_not_compared_and_real_ones_are(tmp_path):
    case = "adapterhub/head__dep"
    root = copied(tmp_path, case)
    words = len(stored_words(root, case)) - 1

    def spoil_padding(arcs):
        arcs[0, words:] = 99.0
        arcs[0, :, words + 1 :] = 99.0
        return arcs

    change(root, case, arc_preds=spoil_padding)
    assert outcome(root).outcome == "passed"

    def spoil_last(arcs):
        arcs[0, words - 1, words] += 1e-2
        return arcs

    change(root, case, arc_preds=spoil_last)
    assert outcome(root).outcome == "failed"


def stored_words(root, case):
    raw = json.loads((root / case / "case.json").read_text())
    return [start for start in raw["word_starts"][0] if start]


def test_other_words_fail(tmp_path):
    case = "adapterhub/head__dep"
    root = copied(tmp_path, case)
    path = root / case / "case.json"
    raw = json.loads(path.read_text())
    raw["word_starts"][0][1] += 1
    raw["word_starts"][0] = sorted(set(raw["word_starts"][0]) - {0})
    path.write_text(json.dumps(raw))
    assert outcome(root).outcome == "failed"


def test_a_saved_setup_is_read_and_run_beside_the_single_folders(tmp_path):
    case = "adapterhub/setup__fuse"
    root = copied(tmp_path, case)
    path = root / case / "setup" / "a,b" / "model_adapter_fusion.safetensors"
    save_file({name: tensor * 1.1 for name, tensor in load_file(path).items()}, path)
    found = outcome(root)
    assert found.outcome == "failed"
    assert found.reason.count("setup row") == found.reason.count("row")
    shutil.rmtree(root / case / "setup" / "b")
    found = outcome(root)
    assert found.outcome == "refused"
    assert "the setup names 'b'" in found.reason


def test_the_fusion_of_a_case_counts(tmp_path):
    case = "adapterhub/setup__fuse"
    root = copied(tmp_path, case)
    path = root / case / "fusions" / "a,b" / "model_adapter_fusion.safetensors"
    save_file({name: tensor * 1.1 for name, tensor in load_file(path).items()}, path)
    assert "row 0: logits" in outcome(root).reason


def test_other_task_ids_fail(tmp_path):
    case = "adapterhub/mtl_lora"
    root = copied(tmp_path, case)
    path = root / case / "case.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"task_ids": [1 - task for task in raw["task_ids"]]}))
    assert outcome(root).outcome == "failed"
