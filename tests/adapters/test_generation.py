import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from adapters import generation
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.errors import InvalidRow
from adapters.formats import language_head
from adapters.manifest import HeadSpec
from adapters.methods.fold import fold
from tests.adapters import builders
from tests.adapters.builders import PARTS

SETTINGS = [
    {"do_sample": False},
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5},
    {"do_sample": True, "temperature": 0.7, "top_k": 20, "num_return_sequences": 3},
]
PROMPTS = [builders.ids(seed, length) for seed, length in enumerate((6, 1, 9))]


@pytest.fixture(scope="module", params=["gpt2", "mistral"])
def speaking(request, tmp_path_factory):
    """(transformers' model, our backbone, its own head) of a family."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(4)
    config = AutoConfig.from_pretrained(builders.folder(request.param), tie_word_embeddings=request.param == "gpt2")
    config.eos_token_id = 11
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(folder)
    backbone = Backbone.load(folder)
    head = fold(language_head.read(folder, backbone.profile), backbone.profile, torch.float32, backbone.base_maps)
    return model, backbone, head


def padded(prompts):
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), 3)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :], mask[i, longest - len(prompt) :] = torch.from_numpy(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("settings", SETTINGS)
def test_bare_rows_generate_what_transformers_own_model_does(speaking, settings):
    model, backbone, head = speaking
    (own,) = builders.in_one_arena([head])
    torch.manual_seed(1)
    wanted = model.generate(**padded(PROMPTS), max_new_tokens=7, **settings)
    torch.manual_seed(1)
    rows = [Row((), own, None, prompt) for prompt in PROMPTS]
    assert torch.equal(generation.generate(backbone, rows, max_new_tokens=7, **settings), wanted)


@pytest.mark.parametrize("settings", SETTINGS[:3])
def test_eight_prompts_with_eight_adapters_generate_together_what_each_does_alone(speaking, settings):
    _, backbone, head = speaking
    family = backbone.profile.geometry.model_type
    names = ("seq_bn", "double_seq_bn", "par_bn", "lora_qv", "ia3", "prefix_flat", "invertible", "loreft")
    folded = [builders.adapter(family, [PARTS[name]], seed=3) for name in names]
    *adapters, own = builders.in_one_arena([*folded, head])
    rows = [Row((adapter,), own, None, builders.ids(i, 3 + i)) for i, adapter in enumerate(adapters)]
    together = generation.generate(backbone, rows, max_new_tokens=5, **settings)
    each, longest = len(together) // len(rows), max(len(row.input_ids) for row in rows)
    continued = set()
    for i, row in enumerate(rows):
        alone = generation.generate(backbone, [row], max_new_tokens=5, **settings)[:, len(row.input_ids) :]
        mixed = together[i * each : (i + 1) * each, longest:]
        assert torch.equal(mixed[:, : alone.shape[1]], alone)
        assert bool((mixed[:, alone.shape[1] :] == 3).all())  # its neighbours went on
        continued.add(tuple(alone[0].tolist()))
    assert len(continued) > 4  # the adapters matter


def test_rows_that_can_not_generate_are_refused(speaking):
    _, backbone, head = speaking
    family = backbone.profile.geometry.model_type
    other = HeadSpec("causal_lm", 1, None, False, "tokens", (), "next_token", vocabulary=50, width=builders.HIDDEN)
    tagging = builders.HEADS["tagging"]
    heads = [builders.adapter(family, [PARTS["lora_qv"]], spec) for spec in (other, tagging)]
    own, narrow, tags = builders.in_one_arena([head, *heads])
    prompt = np.array([5, 6])
    for rows, reason in (
        ([], "no row"),
        ([Row((), None, None, prompt)], "needs a causal_lm head"),
        ([Row((), tags, None, prompt)], "needs a causal_lm head"),
        ([Row((), own, None, prompt), Row((), narrow, None, prompt)], "one vocabulary"),
    ):
        with pytest.raises(InvalidRow, match=reason):
            generation.generate(backbone, rows, max_new_tokens=2)
    with pytest.raises(InvalidRow, match="the backbone takes 40"):
        generation.generate(backbone, [Row((), own, None, prompt)], max_new_tokens=60, eos_token_id=None)
