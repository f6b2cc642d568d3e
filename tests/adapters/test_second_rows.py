import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

from adapters import generation
from adapters.architectures.sites import Address
from adapters.batch.rows import Row
from adapters.door.blocks import BatchSplit, Stack
from adapters.errors import InvalidRow
from adapters.manifest import PartSpec
from adapters.model import AdapterModel
from tests.adapters import builders
from tests.adapters.batch.arrangements import average, split
from tests.adapters.builders import PARTS, takes

IDS = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 11, 12, 13], [40, 41, 42, 2, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
WAYS = [{}, {"use_cache": True}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}]


@pytest.fixture(params=["t5", "mt5", "bart", "mbart"])
def model(request):
    path = builders.folder(request.param)
    made = AdapterModel.from_pretrained(path)
    made.load_lm_head(path)
    made.plain = AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    return made


@pytest.mark.parametrize("settings", WAYS)
def test_the_bare_backbone_generates_what_transformers_own_model_does(model, settings):
    expected = model.plain.generate(IDS, attention_mask=MASK, max_new_tokens=7, **settings)
    found = model.generate(IDS, MASK, adapter_names=[], max_new_tokens=7, **settings)
    assert torch.equal(found, expected)


def test_samples_are_drawn_as_transformers_draws_them(model):
    torch.manual_seed(3)
    expected = model.plain.generate(IDS[:2], max_new_tokens=6, do_sample=True)
    torch.manual_seed(3)
    assert torch.equal(model.generate(IDS[:2], adapter_names=[], max_new_tokens=6, do_sample=True), expected)


def test_the_encoder_runs_once(model):
    seen = []
    hook = model.backbone.model.encoder.register_forward_hook(lambda *_: seen.append(1))
    model.generate(IDS, MASK, adapter_names=[], max_new_tokens=5, num_beams=2)
    hook.remove()
    assert len(seen) == 1


def test_rows_generate_under_adapters_of_their_own(model):
    torch.manual_seed(1)
    for name, kind in (("a", "lora"), ("b", "seq_bn"), ("c", "prefix_tuning_flat")):
        model.add_adapter(name, kind)
        for parameter in model.adapters[name].parameters():
            parameter.data.normal_(0, 0.4)
    wide = BatchSplit("a", Stack("a", "b"), "c", batch_sizes=[1, 1, 1])
    together = model.generate(IDS, MASK, adapter_names=wide, head="lm_head", max_new_tokens=6, min_new_tokens=6)
    for row, own in enumerate(("a", Stack("a", "b"), "c")):
        ids = IDS[row : row + 1, : int(MASK[row].sum())]
        alone = model.generate(ids, adapter_names=own, head="lm_head", max_new_tokens=6, min_new_tokens=6)
        assert torch.equal(together[row : row + 1], alone)


def test_labels_are_the_decoders_tokens_moved(model):
    labels = torch.tensor([[5, 9, 2, -100], [7, 2, -100, -100], [8, 8, 8, 2]])
    expected = model.plain(input_ids=IDS, attention_mask=MASK, labels=labels)
    found = model(input_ids=IDS, attention_mask=MASK, labels=labels, adapter_names=[])
    assert torch.allclose(found.logits, expected.logits, atol=2e-5)
    assert float(found.loss.detach()) == pytest.approx(float(expected.loss.detach()), abs=1e-4)


def test_what_is_given_for_the_decoder_goes_before_what_would_be_made(model):
    second = torch.tensor([[2, 9], [2, 7], [2, 8]])
    expected = model.plain(input_ids=IDS, attention_mask=MASK, decoder_input_ids=second)
    found = model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=second, adapter_names=[])
    assert torch.allclose(found.logits, expected.logits, atol=2e-5)
    with pytest.raises(InvalidRow, match="3 rows, and 2"):
        model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=second[:2], adapter_names=[])


def test_an_adapter_and_a_fresh_head_train_on_the_frozen_backbone(model):
    before = {name: value.clone() for name, value in model.backbone.model.state_dict().items()}
    model.add_adapter("a", "lora")
    model.add_seq2seq_lm_head("a")
    model.train_adapter("a")
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = model(input_ids=IDS, attention_mask=MASK, labels=IDS, adapter_names=["a"]).loss
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < losses[0]
    assert any(bool(p.grad.any()) for p in model.adapters["a"].parameters() if p.grad is not None)
    assert all(torch.equal(before[name], value) for name, value in model.backbone.model.state_dict().items())


def test_a_row_is_classified_by_its_last_end_of_a_text(model):
    eos = model.backbone.profile.geometry.eos_token_id
    ids = IDS.clone()
    ids[:, -1], ids[:, 1] = eos, eos
    model.add_classification_head("c", num_labels=3)
    found = model(input_ids=ids, adapter_names=[], head="c", labels=torch.tensor([0, 1, 2]))
    assert found.logits.shape == (3, 3)
    second = ids[:, :2]
    assert model(input_ids=ids, decoder_input_ids=second, adapter_names=[], head="c").logits.shape == (3, 2, 3)
    with pytest.raises(InvalidRow, match="as long as input_ids"):
        model(input_ids=ids, decoder_input_ids=second, adapter_names=[], head="c", labels=torch.tensor([0, 1, 2]))


def test_a_backbone_of_one_stack_has_no_second_rows():
    bert = AdapterModel(builders.backbone("bert"))
    with pytest.raises(InvalidRow, match="no decoder"):
        bert(input_ids=IDS, decoder_input_ids=IDS)


def test_other_heads_do_not_generate(model):
    model.add_classification_head("c")
    with pytest.raises(InvalidRow, match="seq2seq_lm"):
        model.generate(IDS, head="c", adapter_names=[])


class Watched:
    """A backbone that tells the lengths of the decoders' rows of each pass."""

    def __init__(self, backbone):
        self.backbone, self.passes = backbone, []

    def __getattr__(self, name):
        return getattr(self.backbone, name)

    def proceed(self, rows, kept):
        self.passes.append([len(row.decoder_ids) for row in rows])
        return self.backbone.proceed(rows, kept)


def told(model, rows, **settings):
    torch.manual_seed(2)
    more = {"max_new_tokens": 6, "return_dict_in_generate": True, "output_logits": True, "eos_token_id": None}
    watched = Watched(model.backbone)
    return generation.generate(watched, rows, **more, **settings), watched.passes


GOES_ON = (
    *("seq_bn", "double_seq_bn", "par_bn", "lora_qv", "lora_all", "dora", "ia3", "prefix_flat", "past_prefix"),
    *("invertible", "delta", "decoder_prefix", "cross_prefix", "word_prompt", "multitask_prompt"),
)
STAYS = ("gated_bn", "gated_prefix", "lora_gated", "ia3_gated")
_PREFIX = {"length": 3, "flat": True, "layers": [1]}
ONCE = {
    **PARTS,
    "decoder_prefix": PartSpec("prefix_tuning", _PREFIX),
    "cross_prefix": PartSpec("prefix_tuning", {**_PREFIX, "site": "cross_kv"}),
    "gated_prefix": PartSpec("prefix_tuning", {**_PREFIX, "gating": "shared"}),
}


@pytest.mark.parametrize("settings", [{}, *WAYS[2:], {"do_sample": True, "top_k": 9, "num_return_sequences": 2}])
def test_kept_keys_and_values_change_no_token_and_no_score(model, settings):
    family = model.backbone.profile.geometry.model_type
    names = [name for name in (*GOES_ON, *STAYS) if takes(family, ONCE[name])]
    assert {"lora_all", "decoder_prefix", "cross_prefix", "past_prefix", "word_prompt", "gated_prefix"} <= {*names}
    folded = [builders.adapter(family, [ONCE[name]], seed=3) for name in names]
    head = model.heads["lm_head"].folded(model.backbone)
    *adapters, other, own = builders.in_one_arena([*folded, builders.adapter(family, [PARTS["seq_bn"]], seed=4), head])
    by_name = dict(zip(names, adapters, strict=True))
    members = {"bare": (), **{name: (one,) for name, one in by_name.items()}}
    members["split"] = (split((by_name["seq_bn"],), (other,), splits=(3, 40)),)
    members["stack"] = (by_name["lora_all"], other, average((by_name["seq_bn"],), (other,), weights=(1, 3)))
    rows = [Row(held, own, None, builders.ids(i, 4 + i % 3)) for i, held in enumerate(members.values())]
    kept, passes = told(model, rows, **settings)
    whole, anew = told(model, rows, use_cache=False, **settings)
    assert torch.equal(kept.sequences, whole.sequences)
    for one, two in zip(kept.logits, whole.logits, strict=True):
        assert (one - two).abs().max() < 1e-4 * two.abs().max()
    assert all(len(set(lengths)) == 1 for lengths in anew)
    again = [lengths for lengths in passes[1:] if lengths[0] > 1]  # of rows that are run whole, in passes of their own
    assert len(again) == len(anew) - 1
    if not settings:
        assert {len(lengths) for lengths in again} == {len({*STAYS, "split"} & {*members})}


def test_what_is_kept_of_the_encoder_is_not_made_again(model):
    seen = []
    layer = model.backbone._architecture.linear_path(Address(model.backbone.profile.geometry.encoder_layers, "cross_k"))
    hook = model.backbone.model.get_submodule(layer).register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    model.generate(IDS[:1], adapter_names=[], max_new_tokens=4, min_new_tokens=4)
    hook.remove()
    assert seen[-3:] == [1, 1, 1] and seen[-4] == IDS.shape[1]


def test_the_encoders_states_are_the_rows_own(model):
    with pytest.raises(InvalidRow, match="encoder_outputs"):
        model.generate(IDS, adapter_names=[], encoder_outputs=(torch.zeros(3, 5, 8),))


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.7},
        {"no_repeat_ngram_size": 2, "num_beams": 2},
        {"encoder_repetition_penalty": 1.9},
        {"encoder_no_repeat_ngram_size": 1},
        {"forced_bos_token_id": 9},
        {"min_length": 6},
        {"decoder_input_ids": torch.tensor([[2, 9], [2, 7], [2, 8]])},
    ],
)
def test_what_reads_prompts_and_tokens_sees_what_it_sees_of_transformers_own_model(model, settings):
    ids = IDS.masked_fill(MASK == 0, model.backbone.profile.geometry.pad_token_id)
    told = {"max_new_tokens": 7, "output_scores": True, "return_dict_in_generate": True, **settings}
    expected = model.plain.generate(ids, attention_mask=MASK, **told)
    found = model.generate(ids, MASK, adapter_names=[], **told)
    assert torch.equal(found.sequences, expected.sequences)
    for own, theirs in zip(found.scores, expected.scores, strict=True):  # also of tokens that were not chosen
        assert torch.allclose(own, theirs, atol=1e-4)


def test_a_mask_that_hides_tokens_of_the_decoder_is_refused(model):
    with pytest.raises(InvalidRow, match="decoder_attention_mask"):
        second = {"decoder_input_ids": IDS[:, :2], "decoder_attention_mask": torch.tensor([[1, 1], [0, 1], [1, 1]])}
        model.generate(IDS, adapter_names=[], max_new_tokens=2, **second)


def test_a_silent_call_goes_by_what_stands_beside_the_model(tmp_path):
    AutoModelForSeq2SeqLM.from_pretrained(builders.folder("bart")).save_pretrained(tmp_path)
    said = {"max_new_tokens": 6, "num_beams": 3, "decoder_start_token_id": 17, "eos_token_id": 11, "pad_token_id": 1}
    GenerationConfig(**said).save_pretrained(tmp_path)
    plain, made = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval(), AdapterModel.from_pretrained(tmp_path)
    made.load_lm_head(tmp_path)
    found = made.generate(IDS, MASK, adapter_names=[])
    assert torch.equal(found, plain.generate(IDS, attention_mask=MASK))
    assert found[:, 0].tolist() == [17, 17, 17]
