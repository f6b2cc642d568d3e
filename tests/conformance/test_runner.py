"""The runner itself: it must see every kind of wrong answer, and say nothing it did not compute."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conformance.__main__ import main, read_list
from tests.conformance.cases import find
from tests.conformance.copies import DATA, change, copied, nudge, outcome
from tests.conformance.run import Options, UnknownCases, backbone_folder, run

SEQ = "adapterhub/bert__seq_bn"


def test_the_parent_of_open_is_accepted_and_a_case_passes(tmp_path):
    copied(tmp_path, SEQ)
    found = outcome(tmp_path)
    assert (found.id, found.outcome) == (SEQ, "passed")
    assert 0 < found.max_error < 1e-4


@pytest.mark.parametrize("output", ["logits", "hidden_state"])
def test_one_wrong_number_fails_the_case(tmp_path, output):
    root = copied(tmp_path, SEQ)
    change(root, SEQ, **{output: nudge})
    found = outcome(root)
    assert found.outcome == "failed"
    assert f"row 0: {output}: off by 0.001" in found.reason
    assert found.max_error == pytest.approx(1e-3, rel=0.05)


def test_the_rounding_allowance_excuses_no_real_error(tmp_path):
    root = copied(tmp_path, SEQ)
    change(root, SEQ, logits=lambda tensor: tensor + 2e-4)
    assert outcome(root).outcome == "failed"
    assert outcome(root, strict=True).outcome == "failed"


def test_what_a_case_tells_of_the_librarys_own_rounding_is_allowed_for_and_no_more(tmp_path):
    root = copied(tmp_path, SEQ)
    change(root, SEQ, logits=lambda tensor: tensor + 2e-4)
    path = root / SEQ / "case.json"
    case = json.loads(path.read_text())
    for told, wanted in ({"logits": 3e-4}, "passed"), ({"logits": 1e-4}, "failed"), ({"hidden_state": 3e-4}, "failed"):
        path.write_text(json.dumps({**case, "rounding": told}))
        assert outcome(root).outcome == wanted
    path.write_text(json.dumps({**case, "rounding": {"logits": 3e-4}}))
    assert outcome(root, strict=True).outcome == "failed"
    assert "within float32 rounding" in outcome(root).reason


def test_padding_is_not_compared(tmp_path):
    root = copied(tmp_path, SEQ)
    mask = load_file(root / SEQ / "expected.safetensors")["input.attention_mask"].bool()
    assert not mask.all()

    def spoil(states):
        states[~mask] = 99.0
        return states

    change(root, SEQ, hidden_state=spoil)
    assert outcome(root).outcome == "passed"


def test_other_token_ids_fail_with_the_row(tmp_path):
    root = copied(tmp_path, SEQ)

    def swap(ids):
        ids[1, 1] += 1
        return ids

    change(root, SEQ, input__input_ids=swap)
    found = outcome(root)
    assert found.outcome == "failed"
    assert "TokenMismatch: row 1" in found.reason


def test_other_weights_fail(tmp_path):
    root = copied(tmp_path, SEQ)
    path = root / SEQ / "adapters" / "a" / "adapter.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(path).items()}, path)
    assert outcome(root).outcome == "failed"


def test_a_swapped_pair_of_row_references_fails(tmp_path):
    case = "adapterhub/mixed__lora_ranks"
    root = copied(tmp_path, case)
    tensors = load_file(root / case / "expected.safetensors")
    change(root, case, row__0__hidden_state=lambda _: tensors["row.4.hidden_state"])
    found = outcome(root)
    assert found.outcome == "failed"
    assert "row 0: row.0.hidden_state" in found.reason


def test_a_row_of_a_head_that_is_in_no_artefact_is_left_out(tmp_path):
    case = "adapterhub/mixed__prompt_and_none"
    root = copied(tmp_path, case)
    path = root / case / "case.json"
    raw = json.loads(path.read_text())
    assert raw["rows"][2]["composition"] is None
    raw["rows"][2]["head"] = None
    path.write_text(json.dumps(raw))
    tensors = load_file(root / case / "expected.safetensors")
    del tensors["row.2.hidden_state"]
    save_file(tensors, root / case / "expected.safetensors")
    assert outcome(root).outcome == "passed"


def test_a_broken_artefact_is_refused_and_the_others_still_run(tmp_path):
    root = copied(tmp_path, SEQ, "adapterhub/head_only")
    (root / SEQ / "adapters" / "a" / "adapter.safetensors").write_bytes(b"torn")
    report = run(Options(root))
    assert {case.id: case.outcome for case in report.cases} == {SEQ: "refused", "adapterhub/head_only": "passed"}
    assert report.lines()[-1] == "1 passed, 0 failed, 1 refused"


def test_a_missing_file_fails_and_the_others_still_run(tmp_path):
    root = copied(tmp_path, SEQ, "adapterhub/head_only")
    (root / SEQ / "expected.safetensors").unlink()
    report = run(Options(root))
    assert {case.id: case.outcome for case in report.cases}[SEQ] == "failed"
    assert not report.good


def test_an_output_that_no_row_has_is_refused_and_never_passed(tmp_path):
    root = copied(tmp_path, SEQ)
    path = root / SEQ / "expected.safetensors"
    save_file(load_file(path) | {"generated": torch.zeros(3, 4)}, path)
    found = outcome(root)
    assert (found.outcome, found.reason) == ("refused", "NotComparable: outputs generated")


def test_a_backbone_without_a_record_refuses_its_cases(tmp_path):
    root = copied(tmp_path, SEQ)
    path = root / "backbones" / "bert-tiny" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "megatron-bert"}))
    found = outcome(root)
    assert found.outcome == "refused"
    assert "UnknownArchitecture" in found.reason


def test_names_are_the_cases_own_business(tmp_path):
    root = copied(tmp_path, SEQ)
    path = root / SEQ / "case.json"
    path.write_text(path.read_text().replace('"a"', '"My Adapter!"'))
    raw = json.loads(path.read_text())
    assert raw["composition"] == {"stack": ["My Adapter!"]}
    assert outcome(root).outcome == "passed"


def test_a_gated_row_with_padding_is_left_out(tmp_path):
    case = "adapterhub/bert__mh_parallel_ln_gating"
    root = copied(tmp_path, case)
    mask = load_file(root / case / "expected.safetensors")["input.attention_mask"].bool().all(1)
    assert not mask.all()
    change(root, case, hidden_state=lambda t: t.masked_fill(~mask[:, None, None], 7.0))
    assert outcome(root).outcome == "passed"
    change(root, case, hidden_state=lambda t: t + 1.0)
    assert outcome(root).outcome == "failed"


def test_a_batch_that_takes_two_passes_fails(tmp_path, monkeypatch):
    cases = [SEQ, "adapterhub/head_only", "adapterhub/bert__lora_leave_out", "adapterhub/bert__prompt_tuning"]
    root = copied(tmp_path, *cases)
    options = Options(root, mixed=2, seed=3)
    assert [batch.forwards for batch in run(options).batches] == [1, 1]

    from adapters.backbone import Backbone

    once = Backbone.run

    def one_by_one(self, rows, want):
        return [once(self, [row], [wanted])[0] for row, wanted in zip(rows, want, strict=True)]

    monkeypatch.setattr(Backbone, "run", one_by_one)
    report = run(options)
    assert all("forward passes instead of one" in batch.reason for batch in report.batches)
    assert not report.good


def test_the_same_seed_draws_the_same_batches(tmp_path):
    cases = [SEQ, "adapterhub/head_only", "adapterhub/bert__lora_leave_out", "adapterhub/bert__prompt_tuning"]
    root = copied(tmp_path, *cases)
    one, again, other = (run(Options(root, mixed=3, seed=seed)).batches for seed in (5, 5, 6))
    assert one == again
    assert [batch.rows for batch in one] != [batch.rows for batch in other]


def test_a_list_chooses_and_unknown_ids_are_an_error(tmp_path, capsys):
    root = copied(tmp_path, SEQ, "adapterhub/head_only")
    chosen = tmp_path / "list.txt"
    chosen.write_text(f"# only one\n\n{SEQ}\n")
    assert read_list(chosen) == (SEQ,)
    assert main([str(root), "--only", str(chosen), "--json", str(tmp_path / "out.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 refused"
    told = json.loads((tmp_path / "out.json").read_text())
    assert [case["id"] for case in told["cases"]] == [SEQ]
    assert told["batches"] == []
    chosen.write_text("adapterhub/nothing\n")
    assert main([str(root), "--only", str(chosen)]) == 2
    assert "does not hold adapterhub/nothing" in capsys.readouterr().err


def test_a_filter_chooses_by_text_and_must_fit_something(tmp_path):
    root = copied(tmp_path, SEQ, "adapterhub/head_only")
    assert [case.id for case in run(Options(root, filter="head")).cases] == ["adapterhub/head_only"]
    with pytest.raises(UnknownCases):
        run(Options(root, filter="nothing"))


def test_a_failure_is_the_exit_code(tmp_path, capsys):
    root = copied(tmp_path, SEQ)
    change(root, SEQ, logits=nudge)
    assert main([str(root)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 refused"
    assert main([str(tmp_path / "nowhere")]) == 2


def test_too_few_cases_can_not_be_mixed(tmp_path, capsys):
    root = copied(tmp_path, SEQ)
    assert main([str(root), "--mixed", "3"]) == 2
    assert "no backbone has 4 cases of 2 methods" in capsys.readouterr().err


def test_minilm_comes_from_the_installed_package_or_the_option(tmp_path):
    assert (backbone_folder("all-MiniLM-L6-v2", tmp_path) / "model.safetensors").is_file()
    assert backbone_folder("all-MiniLM-L6-v2", tmp_path, Path("elsewhere")) == Path("elsewhere")
    assert backbone_folder("bert-tiny", tmp_path) == tmp_path / "backbones" / "bert-tiny"


def test_a_fold_that_breaks_hides_no_other_case(tmp_path, monkeypatch):
    root = copied(tmp_path, SEQ, "adapterhub/head_only")
    from tests.conformance import bench

    def breaks(package, *rest):
        if package.manifest.parts:
            raise RuntimeError("broken fold")
        return fold(package, *rest)

    fold = bench.fold
    monkeypatch.setattr(bench, "fold", breaks)
    outcomes = {case.id: case.outcome for case in run(Options(root)).cases}
    assert outcomes == {SEQ: "failed", "adapterhub/head_only": "passed"}


def test_batch_split_gives_each_row_its_own_part():
    (case,) = [case for case in find(DATA) if case.id == "adapterhub/batch_split__stacks"]
    rows = case.rows(0)
    named = [[row.arranged.names[leaf.ref.name][1] for leaf in row.arranged.composition.leaves()] for row in rows]
    assert named == [["lang1", "task1"]] * 2 + [["lang2", "task2"]]
    assert [row.arranged.head for row in rows] == ["task1", "task1", "task2"]
    logits = [next(e.name for e in row.expected if e.output == "logits") for row in rows]
    assert logits == ["head_output.0.logits"] * 2 + ["head_output.1.logits"]
