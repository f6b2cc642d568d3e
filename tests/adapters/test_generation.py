import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from adapters import generation
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.errors import InvalidRow
from adapters.formats import language_head
from adapters.manifest import HeadSpec
from adapters.methods.fold import fold
from tests.adapters import builders
from tests.adapters.batch.arrangements import average, split
from tests.adapters.builders import PARTS, reft, takes

SETTINGS = [
    {"do_sample": False},
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5},
    {"do_sample": True, "temperature": 0.7, "top_k": 20, "num_return_sequences": 3},
]
PROMPTS = [builders.ids(seed, length) for seed, length in enumerate((6, 1, 9))]


@pytest.fixture(scope="module", params=builders.DECODERS)
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
    names = (
        "adaption_prompt",
        "seq_bn",
        "double_seq_bn",
        "par_bn",
        "lora_qv",
        "ia3",
        "prefix_flat",
        "invertible",
        "loreft",
        "dora",
        "delta",
        "norms",
        "biases",
        "shira",
    )
    taken = [PARTS[name] for name in names if takes(family, PARTS[name])][:8]
    assert len(taken) == 8
    folded = [builders.adapter(family, [part], seed=3) for part in taken]
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


class Watched:
    """A backbone that tells the lengths of the rows of each pass, in the order of the rows asked."""

    def __init__(self, backbone):
        self.backbone, self.passes = backbone, []

    def __getattr__(self, name):
        return getattr(self.backbone, name)

    def proceed(self, rows, kept):
        self.passes.append([row.length for row in rows])
        return self.backbone.proceed(rows, kept)


# What changes a token by itself, or is done with a row's first ones, and what looks at how a row ends.
ONCE = {**PARTS, "first_reft": reft(suffix_positions=0), "early_reft": reft(prefix_positions=8, suffix_positions=0)}
GOES_ON = (
    "seq_bn",
    "double_seq_bn",
    "lora_all",
    "dora",
    "ia3",
    "prefix_flat",
    "past_prefix",
    "adaption_prompt",
    "word_prompt",
    "invertible",
    "delta",
    "road",
    "norms",
    "first_reft",
    "lora_words",
)
STAYS = ("gated_bn", "prefix_gated", "lora_gated", "ia3_gated", "loreft", "direft")


def told(backbone, rows, **settings):
    torch.manual_seed(2)
    more = {"max_new_tokens": 6, "return_dict_in_generate": True, "output_logits": True, "eos_token_id": None}
    watched = Watched(backbone)
    return generation.generate(watched, rows, **more, **settings), watched.passes


@pytest.mark.parametrize("settings", SETTINGS)
def test_kept_keys_and_values_change_no_token_and_no_score(speaking, settings):
    _, backbone, head = speaking
    family = backbone.profile.geometry.model_type
    names = [name for name in (*GOES_ON, *STAYS, "early_reft") if takes(family, ONCE[name])]
    folded = [builders.adapter(family, [ONCE[name]], seed=3) for name in names]
    *adapters, other, own = builders.in_one_arena([*folded, builders.adapter(family, [ONCE["seq_bn"]], seed=4), head])
    by_name = dict(zip(names, adapters, strict=True))
    members = {name: (one,) for name, one in by_name.items()}
    members["split"] = (split((by_name["seq_bn"],), (other,), splits=(3, 40)),)
    members["stack"] = (by_name["lora_all"], other, average((by_name["seq_bn"],), (other,), weights=(1, 3)))
    rows = [Row(held, own, None, builders.ids(i, 4 + i % 3)) for i, held in enumerate(members.values())]
    kept, passes = told(backbone, rows, **settings)
    whole, anew = told(backbone, rows, use_cache=False, **settings)
    assert torch.equal(kept.sequences, whole.sequences)
    for one, other in zip(kept.logits, whole.logits, strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()
    assert [len(p) for p in passes] == [len(p) for p in anew] and max(map(max, anew)) > max(map(max, passes[1:]))
    if settings == {"do_sample": False}:
        stay = {name for name, length in zip(members, passes[-1], strict=True) if length > 1}
        assert stay == {*STAYS, "split"} & {*members}
        early = [lengths[list(members).index("early_reft")] for lengths in passes]
        assert early[-1] == 1 and early[1] > 1  # until all that it edits are there


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}])
def test_sequences_that_are_alike_are_computed_once(speaking, more):
    _, backbone, head = speaking
    (own,) = builders.in_one_arena([head])
    rows = [Row((), own, None, builders.ids(1, 5))]
    _, passes = told(backbone, rows, num_return_sequences=3, do_sample=not more, **more)
    assert passes[0] == [5] and all(len(lengths) <= 3 and set(lengths) == {1} for lengths in passes[1:])


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


def test_a_silent_call_goes_by_what_stands_beside_the_model(tmp_path):
    folder = builders.variant("gpt2")
    torch.manual_seed(4)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    said = GenerationConfig(max_new_tokens=9, num_beams=2, suppress_tokens=[*range(5, 40)], eos_token_id=[11, 60])
    said.save_pretrained(tmp_path)
    model, backbone = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), Backbone.load(tmp_path)
    head = fold(language_head.read(tmp_path, backbone.profile), backbone.profile, torch.float32, backbone.base_maps)
    (own,) = builders.in_one_arena([head])
    rows = [Row((), own, None, prompt) for prompt in PROMPTS]
    wanted = model.generate(**padded(PROMPTS), pad_token_id=3)
    found = generation.generate(backbone, rows, pad_token_id=3)
    assert torch.equal(found, wanted) and wanted.shape[1] > 9
    assert not set(found[:, 9:].flatten().tolist()) & set(range(5, 40))
    louder = generation.generate(backbone, rows, pad_token_id=3, max_new_tokens=2)
    assert louder.shape[1] == 11
