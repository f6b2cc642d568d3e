from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from adapters.heads.table import head_reasons, head_shapes
from tests.adapters.heads.made import HIDDEN, SPECS, heads, run, states


def reference(spec, held, x, undo=lambda h: h):
    for i in range(spec.layers - 1):
        x = x @ held[f"{i}.weight"].T + held[f"{i}.bias"]
        x = functional.gelu(x) if spec.activation == "gelu" else torch.relu(x)
        if spec.norm_eps is not None:
            x = functional.layer_norm(x, x.shape[-1:], held[f"{i}.norm.weight"], held[f"{i}.norm.bias"], spec.norm_eps)
    last = spec.layers - 1
    return undo(x) @ held[f"{last}.weight"].T + held.get(f"{last}.bias", torch.zeros(spec.vocabulary))


@pytest.mark.parametrize("name", ["language", "bare_language", "deep_language", "next_word", "bare_next_word"])
def test_every_token_has_a_score_for_every_word(name):
    spec = SPECS[name]
    held = heads(spec, 2)
    lengths = [2, 5, 3]
    x = states(lengths)
    answers = run(spec, held, lengths, [0, 0, 1], x)
    assert [answer.shape for answer in answers] == [(n, spec.vocabulary) for n in lengths]
    for answer, owner, piece in zip(answers, [0, 0, 1], torch.split(x, lengths), strict=True):
        assert torch.allclose(answer, reference(spec, held[owner], piece), atol=1e-4)


def test_the_norm_s_own_eps_counts():
    spec = SPECS["language"]
    (held,) = heads(spec, 1)
    x = states([3]) * 1e-3
    strong = replace(spec, norm_eps=0.5)
    assert torch.allclose(run(strong, [held], [3], [0], x)[0], reference(strong, held, x), atol=1e-5)
    assert not torch.allclose(run(strong, [held], [3], [0], x)[0], run(spec, [held], [3], [0], x)[0], atol=1e-2)


def test_the_invertible_adapter_is_undone_right_before_the_vocabulary():
    spec = SPECS["language"]
    (held,) = heads(spec, 1)
    x, seen = states([3]), []

    def undo(states):
        seen.append(states.shape)
        return states.flip(1) - 1

    (answer,) = run(spec, [held], [3], [0], x, undo=undo)
    assert seen == [(3, 4)]
    assert torch.allclose(answer, reference(spec, held, x, undo), atol=1e-4)
    kept = run(replace(spec, inverse=False), [held], [3], [0], x, undo=undo)[0]
    assert torch.allclose(kept, reference(spec, held, x), atol=1e-4)


def test_tensors_follow_the_settings():
    assert head_shapes(SPECS["language"], 6) == {
        "head/0/weight": (4, 6),
        "head/0/bias": (4,),
        "head/0/norm.weight": (4,),
        "head/0/norm.bias": (4,),
        "head/1/weight": (11, 4),
        "head/1/bias": (11,),
    }
    assert head_shapes(SPECS["bare_language"], 6) == {"head/0/weight": (9, 6)}
    assert head_shapes(SPECS["deep_language"], 6)["head/1/weight"] == (5, 5)


def test_one_layer_reads_the_hidden_states_as_they_are_and_has_their_width():
    (reason,) = head_reasons(replace(SPECS["bare_language"], width=4), HIDDEN, has_pooler=True)
    assert reason.startswith("manifest.head.width must be 6, not 4")
    assert head_reasons(replace(SPECS["bare_language"], width=4, layers=2), HIDDEN, has_pooler=True) == []


def test_sizes_are_needed():
    reasons = head_reasons(replace(SPECS["language"], vocabulary=None, width=None), HIDDEN, has_pooler=True)
    assert len(reasons) == 2
    assert head_reasons(replace(SPECS["language"], pooling="first_token"), HIDDEN, has_pooler=True)
    assert head_reasons(replace(SPECS["next_word"], problem_type="vocabulary"), HIDDEN, has_pooler=True)
