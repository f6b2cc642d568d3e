"""The contract that every entry of the table of methods keeps."""

import math
import random

import pytest
import torch

from adapters.architectures.sites import SITES, SiteKind
from adapters.batch.rows import Row
from adapters.errors import InvalidRow, Misfit
from adapters.manifest import Manifest, PartSpec
from adapters.methods.fold import expected, fitting_of, fold
from adapters.methods.table import ATTENTION, BESIDE, EMBEDDING, JUNCTION, LAYER, LINEAR, METHODS, NORM
from adapters.methods.tuners.table import TUNERS
from adapters.weights import Package, alone
from tests.adapters import builders
from tests.adapters.builders import FAMILIES, HEADS, PARTS

TOLERANCE = 1e-5  # of the largest magnitude
TABLES = {
    SiteKind.LINEAR: LINEAR,
    SiteKind.JUNCTION: JUNCTION,
    SiteKind.ATTENTION_KV: {**ATTENTION, **BESIDE},
    SiteKind.EMBED_LOOKUP: EMBEDDING,
    SiteKind.EMBED_OUT: EMBEDDING,
    SiteKind.NORM: NORM,
    SiteKind.LAYER_OUT: LAYER,
}
# What AdapterHub does not have, or can not run, for a family.
PROMPTS = {case for case, part in PARTS.items() if part.method == "prompt_tuning"}
PREFIXES = {case for case, part in PARTS.items() if part.method == "prefix_tuning"}
PASTS = {case for case, part in PARTS.items() if part.method == "past_prefix"}
NORMS = {case for case, part in PARTS.items() if part.method == "norms"}  # the case has one behind the embeddings
ADAPTIONS = {case for case, part in PARTS.items() if part.method == "adaption_prompt"}
TABLED = {"tables"}  # the case has positions and segments
REFUSED = {
    **dict.fromkeys(builders.ENCODERS, ADAPTIONS),  # PEFT has them for three families of decoders
    **dict.fromkeys(("distilbert", "deberta-v2"), ADAPTIONS | TABLED),
    "modernbert": ADAPTIONS | TABLED | PREFIXES | PASTS | PROMPTS | {"post_add_bn"},
    **dict.fromkeys(("gpt2", "llama", "mistral"), TABLED | PROMPTS | NORMS | {"post_add_bn"}),
    "qwen2": ADAPTIONS | TABLED | PREFIXES | PROMPTS | NORMS | {"post_add_bn"},
    # Whose heads are wider than its states:
    "qwen3": ADAPTIONS | TABLED | PREFIXES | PROMPTS | NORMS | {"post_add_bn", "vera"},
}
# A prompt starts from words; tuners other than RoAd are trained by PEFT.
UNSTARTED = {"multitask_prompt", "prompt_tuning", "word_prompt"} | {
    tuner.name for tuner in TUNERS if tuner.name != "road"
}
# Tensors that are never learned: a base of an orthogonal map, places in a matrix.
CONSTANTS = ("size.attn_q", ".base", "/indices")
SERVED = [(case, family) for family in FAMILIES for case in PARTS if case not in REFUSED.get(family, ())]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(
        (one - other).abs().max() <= TOLERANCE * max(1.0, float(other.abs().max()))
    )


def test_every_method_has_cases_here_and_acts_on_some_kind_of_site():
    packages_of_their_own = {"fusion"}
    fold_into_others = {
        "compacter": "bottleneck",
        "maps": "delta",
        "vera": "lora",
        "mtl_lora": "lora",
        "multitask_prompt": "word_prompt",
    }
    fold_into_others |= {tuner.name: "delta" for tuner in TUNERS if tuner.name not in ("road", "lily")}
    assert {part.method for part in PARTS.values()} == set(METHODS) - packages_of_their_own
    acting = {name for table in TABLES.values() for name in table}
    assert acting == set(METHODS) - packages_of_their_own - fold_into_others.keys()
    assert acting >= set(fold_into_others.values())


@pytest.mark.parametrize(
    ("family", "case"), [(family, case) for family, cases in REFUSED.items() for case in sorted(cases)]
)
def test_what_a_family_does_not_take_is_refused_with_reasons(family, case):
    manifest = Manifest("adapter", builders.requires(family), (PARTS[case],))
    with pytest.raises(Misfit) as caught:
        expected(manifest, builders.profile(family))
    assert all(reason.startswith(PARTS[case].method) for reason in caught.value.reasons)


@pytest.mark.parametrize(("case", "family"), SERVED)
def test_folds_to_addresses_of_the_kinds_it_acts_on(case, family):
    folded = builders.adapter(family, [PARTS[case]])
    assert folded.blocks
    for address, blocks in folded.blocks.items():
        for block in blocks:
            assert block.method in TABLES[SITES[address.site]]


@pytest.mark.parametrize(("case", "family"), SERVED)
def test_changes_the_row_and_nothing_but_the_row(case, family):
    backbone = builders.backbone(family)
    resident = builders.in_one_arena([builders.adapter(family, [PARTS[case]])], slack=3)[0]
    bare = Row((), None, None, builders.ids(1, 9))
    adapted = Row((resident,), None, None, builders.ids(1, 9))
    alone_, before = backbone.run([adapted], ["hidden_state"])[0], backbone.run([bare], ["hidden_state"])[0]
    mixed = backbone.run([bare, adapted, bare], ["hidden_state"] * 3)
    assert torch.isfinite(mixed[1]).all()
    assert close(mixed[1], alone_)
    assert close(mixed[0], before)
    assert close(mixed[2], before)
    assert alone_.shape != before.shape or float((alone_ - before).abs().max()) > 1e-2


@pytest.mark.parametrize(("case", "family"), SERVED)
def test_many_adapters_of_one_kin_equal_each_alone(case, family):
    backbone = builders.backbone(family)
    residents = builders.in_one_arena([builders.adapter(family, [PARTS[case]], seed=s) for s in range(6)], slack=1)
    rows = [Row((residents[s % 6],), None, None, builders.ids(s, 1 + 3 * s % 17)) for s in (0, 3, 1, 4, 1, 2, 5, 8)]
    want = ["hidden_state"] * len(rows)
    for row, mixed in zip(rows, backbone.run(rows, want), strict=True):
        assert close(mixed, backbone.run([row], ["hidden_state"])[0])


@pytest.mark.parametrize("case", [name for name, part in PARTS.items() if part.method not in UNSTARTED])
def test_fresh_adapters_start_near_the_backbone(case):
    part, profile = PARTS[case], builders.profile(builders.home(PARTS[case]))
    method = METHODS[part.method]
    start = method.initialise(part.config, fitting_of(profile), torch.Generator().manual_seed(0))
    manifest = Manifest("adapter", builders.requires(builders.home(PARTS[case])), (part,))
    shapes = expected(manifest, profile)
    assert {name: tuple(tensor.shape) for name, tensor in start.items()} == shapes
    folded = fold(Package(manifest, start), profile, torch.float32)
    assert torch.isfinite(folded.flat).all()
    if part.method in ("lora", "ia3") and part.config["sites"][next(iter(part.config["sites"]))].get("scaling", 1) == 1:
        backbone, row = builders.backbone(builders.home(PARTS[case])), builders.ids(2, 7)
        out = backbone.run([Row((alone(folded),), None, None, row)], ["hidden_state"])[0]
        assert close(out, backbone.run([Row((), None, None, row)], ["hidden_state"])[0])


@pytest.mark.parametrize("case", PARTS)
def test_fold_and_pass_are_differentiable_in_every_stored_tensor(case):
    package = builders.package(builders.home(PARTS[case]), [PARTS[case]], HEADS["two_layers"])
    for tensor in package.tensors.values():
        tensor.requires_grad_()
    backbone = builders.backbone(builders.home(PARTS[case]))
    resident = alone(fold(package, builders.profile(builders.home(PARTS[case])), torch.float32))
    row = Row((resident,), resident, None, builders.ids(4, 6))
    states = backbone.forward(backbone.plan([row], [True]))
    (states.logits[0].square().sum() + states.hidden.square().sum()).backward()
    constants = {name for name in package.tensors if name.endswith(CONSTANTS)}
    learned = {name: tensor for name, tensor in package.tensors.items() if name not in constants}
    dead = [n for n, t in learned.items() if t.grad is None or not torch.isfinite(t.grad).all()]
    assert not dead
    moved = [n for n, t in package.tensors.items() if t.grad is not None and float(t.grad.abs().sum()) > 0]
    assert len(moved) >= len(learned) - 2  # a key's bias, say, has no effect under softmax
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


@pytest.mark.parametrize("case", PARTS)
def test_bytes_of_a_slot_are_the_folded_tensors_rounded_up(case):
    folded = builders.adapter(builders.home(PARTS[case]), [PARTS[case]], HEADS["one_layer"])
    spans = [span for blocks in folded.blocks.values() for block in blocks for span in block.spans.values()]
    spans += folded.head_spans.values()
    used = sum(-(-math.prod(span.shape) // 64) * 64 for span in spans)
    assert folded.flat.numel() == used
    assert folded.nbytes == used * 4


@pytest.mark.parametrize("method", [name for name in METHODS if name != "fusion"])
def test_an_empty_or_foreign_configuration_is_refused_with_reasons(method):
    for config in ({}, {"sites": {}}, {"nonsense": 1}, {"sites": {"9/attn_q": {}}}, {"sites": {"0/nowhere": {}}}):
        manifest = Manifest("adapter", builders.requires("bert"), (PartSpec(method, config),))
        with pytest.raises(Misfit) as caught:
            expected(manifest, builders.profile("bert"))
        assert all(reason.startswith(method) for reason in caught.value.reasons)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_mixed_batches_equal_rows_one_by_one(family):
    backbone, rng = builders.backbone(family), random.Random(11)
    heads = [head for name, head in HEADS.items() if name != "pooler" or backbone.profile.has_pooler]
    parts = [part for case, part in PARTS.items() if (case, family) in SERVED]
    adapters = [builders.adapter(family, [part], rng.choice(heads), seed) for seed, part in enumerate(parts)]
    adapters.append(builders.adapter(family, [PARTS["seq_bn"], PARTS["invertible"]], heads[0], 99))
    residents = builders.in_one_arena(adapters, slack=2)
    compared = 0
    for _ in range(30):
        rows = []
        for _ in range(rng.randint(2, 16)):
            members = tuple(rng.choice(residents) for _ in range(rng.choice((0, 1, 1, 2, 3))))
            head = rng.choice(residents) if rng.random() < 0.6 else None
            row = Row(members, head, None, builders.ids(rng.randrange(10**6), rng.randint(1, 20)))
            want = "logits" if head else "hidden_state"
            try:
                rows.append((row, want, backbone.run([row], [want])[0]))
            except InvalidRow:
                continue  # maps that are not square can not be chained
        if rows:
            mixed = backbone.run([row for row, _, _ in rows], [want for _, want, _ in rows])
            assert all(close(out, single) for out, (_, _, single) in zip(mixed, rows, strict=True))
            compared += len(rows)
    assert compared > 100


@pytest.mark.parametrize("case", PARTS)
def test_a_nan_adapter_changes_no_other_row_by_a_bit(case):
    family = builders.home(PARTS[case])
    backbone = builders.backbone(family)
    parts = [part for name, part in PARTS.items() if name not in REFUSED.get(family, ())]
    good = [builders.adapter(family, [part], HEADS["two_layers"], seed) for seed, part in enumerate(parts)]
    bad = builders.package(family, [PARTS[case]], HEADS["two_layers"], seed=500)
    poison = Package(
        bad.manifest,
        {n: t if n.endswith(CONSTANTS) else torch.full_like(t, float("nan")) for n, t in bad.tensors.items()},
    )
    healthy = fold(bad, builders.profile(family), torch.float32)
    sick = fold(poison, builders.profile(family), torch.float32)
    outs = []
    for culprit in (healthy, sick):
        residents = builders.in_one_arena([*good, culprit], slack=1)
        rows = [Row((r,), r, None, builders.ids(i, 4 + i % 7)) for i, r in enumerate(residents)]
        outs.append(backbone.run(rows, ["logits"] * len(rows)))
    assert torch.isnan(outs[1][-1]).all()
    for clean, beside in zip(outs[0][:-1], outs[1][:-1], strict=True):
        assert torch.equal(clean, beside)
