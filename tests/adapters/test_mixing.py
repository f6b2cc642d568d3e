"""Rows of all methods, compositions, heads and vocabularies, drawn together at random, equal the same rows alone.

Alone they run on torch's operations as well as on the compiled kernels: neither can hide what the other does wrong.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import product

import pytest
import torch

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.embeddings import token_embedding
from adapters.errors import InvalidRow, Misfit
from adapters.manifest import HeadSpec, Manifest, PartSpec
from adapters.methods.fold import expected, fold
from adapters.weights import Adapter, Package, Resident
from tests.adapters import builders
from tests.adapters.batch.arrangements import add, random_members
from tests.adapters.builders import FAMILIES, HEADS, PARTS, takes

BATCHES, POOL = 250, 90  # of each family
TOLERANCE = 1e-5  # of the row's largest magnitude
ROUNDING = 5e-5  # the same, between sums in one order and in another
# The same, of a row alone against its arithmetic in float64. Rows drawn at random may blow rounding up (differences of
# large states, sharp attention of a fusion): those above tell nothing, and are drawn anew.
STEADY = 3e-6
MORE_HEADS = {
    "qa": HeadSpec("question_answering", 1, None, True, "tokens", ("start", "end"), "span"),
    "choice": HeadSpec("multiple_choice", 2, "tanh", True, "first_token", (), "choice"),
    "words": HeadSpec(
        "masked_lm", 2, "gelu", True, "tokens", (), "vocabulary", vocabulary=70, width=None, norm_eps=1e-5
    ),
    "next_words": HeadSpec(
        "causal_lm", 1, None, False, "tokens", (), "next_token", vocabulary=70, width=builders.HIDDEN
    ),
    "mean": HeadSpec("classification", 2, "gelu", True, "mean", ("a", "b", "c"), "single_label"),
    "last": HeadSpec("classification", 2, "tanh", True, "last_token", ("a", "b", "c"), "single_label"),
    "counted": HeadSpec("classification", 1, None, True, "counted_token", ("a", "b", "c"), "single_label"),
    "trees": HeadSpec("dependency_parsing", 1, None, False, "tokens", ("root", "nsubj", "obj"), "tree"),
}
FUSION = {"query": True, "key": True, "value": True, "query_before_ln": False, "residual_before": False, "value_before_softmax": True}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    row: Row
    want: str
    alone: torch.Tensor
    magnitude: float  # the largest of the row's states and answers: a logit near zero is a difference of large terms


def fusions(family: str) -> list[Adapter]:
    made = []
    for seed, change in enumerate(({}, {"value": False}, {"query_before_ln": True})):
        config = {**FUSION, **change, "sites": builders.sites(("attn_junction", "ffn_junction"))}
        manifest = Manifest("fusion", builders.requires(family), (PartSpec("fusion", config),), children=("a", "b"))
        generator = torch.Generator().manual_seed(seed)
        shapes = expected(manifest, builders.profile(family))
        tensors = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
        made.append(fold(Package(manifest, tensors), builders.profile(family), torch.float32))
    return made


def heads(family: str) -> list[HeadSpec]:
    """Heads that a family's backbone can have; vocabularies are as wide as its own embeddings."""
    from dataclasses import replace

    profile = builders.profile(family)
    words = replace(MORE_HEADS["words"], width=profile.geometry.embedding_size)
    if profile.geometry.encoder_layers:
        eos = [replace(HEADS[name], pooling="last_eos") for name in ("two_layers", "one_layer", "regression")]
        words = replace(MORE_HEADS["next_words"], type="seq2seq_lm", problem_type="vocabulary", scale=0.3)
        return [*eos, MORE_HEADS["qa"], words]
    found = [head for name, head in HEADS.items() if name != "pooler" or profile.has_pooler]
    return [*found, *({**MORE_HEADS, "words": words}).values()]


def gathered(family: str, kinds: Sequence[HeadSpec]) -> list[Adapter]:
    """What PEFT's folders hold together: a tuner, norms, maps and words saved whole beside it, and replicated layers."""
    beside = {
        "norms": PARTS["norms"],
        "maps": PartSpec("maps", {"sites": {"1/attn_out": {"bias": True}}}),
        "words": PARTS["word_rows"],
        "table": PARTS["word_table"],
    }
    tuners = {name: PARTS[name] for name in ("lora_qv", "dora_peft", "ia3", "word_prompt", "past_prefix", "delta")}
    found = []
    for seed, (tuner, names) in enumerate(
        product(tuners, (("norms", "maps"), ("norms", "words"), ("maps", "table"), ("maps",)))
    ):
        parts = [tuners[tuner], *(beside[name] for name in names)]
        with suppress(Misfit):
            found.append(builders.adapter(family, parts, kinds[seed % len(kinds)], 300 + seed))
    for seed, route in enumerate(((0, 1, 1, 0), (0, 1, 1, 0), (1, 0), (0, 0, 1))):
        site = builders.sites(("attn_q", "attn_v"), range(len(route)), rank=2, scaling=1.3)
        manifest = Manifest(
            "adapter", builders.requires(family), (PartSpec("lora", {"sites": site}),), kinds[seed], route=route
        )
        with suppress(Misfit):
            found.append(builders.folded(manifest, 400 + seed))
    return found


class Draw:
    """Everything that a family's rows may name, in one arena with NaN between."""

    def __init__(self, family: str) -> None:
        self.rng = random.Random(family)
        self.backbone, self.plain = builders.backbone(family), builders.backbone(family, compiled=False)
        taken = [part for part in [*PARTS.values(), *builders.CROSS_PARTS.values()] if takes(family, part)]
        kinds = heads(family)
        adapters = [builders.adapter(family, [p], kinds[i % len(kinds)], i) for i, p in enumerate(taken)]
        adapters += [
            builders.adapter(family, [PARTS["seq_bn"], PARTS["invertible"]], kinds[0], 201),
            builders.adapter(family, [PARTS["double_seq_bn"], PARTS["invertible"]], kinds[-2], 202),
            builders.adapter(family, [PARTS["double_seq_bn"]], kinds[-1], 203),
            builders.adapter(family, [PARTS["gated_bn"], PARTS["lora_gated"]], kinds[1], 204),
        ]
        together = gathered(family, kinds)
        fused = fusions(family)
        placed = builders.in_one_arena([*adapters, *together, *fused], slack=2)
        self.exact = Backbone.load(builders.folder(family), dtype=torch.float64, compiled=False)
        self.arena = placed[0].arena
        count = len(adapters) + len(together)
        self.residents, self.fusions, self.gathered = placed[:count], placed[count:], placed[len(adapters) : count]
        self.routed = [r for r in self.gathered if r.adapter.manifest.route]
        self.bottlenecks = [r for r in self.residents if self.acts(r, "ffn_junction") and len(r.adapter.blocks) < 6]
        self.loras = [r for r in self.residents if self.acts(r, "attn_q")]
        self.kinds = sorted({r.adapter.head.type for r in self.residents})
        words = builders.embedding_package(family, rows=60)
        self.embedding, self.exact_embedding = (token_embedding(words, t) for t in (torch.float32, torch.float64))

    @staticmethod
    def acts(resident: Resident, site: str) -> bool:
        layers = {a.layer for a in resident.adapter.blocks if a.site == site}
        return layers == set(range(builders.LAYERS))

    def members(self, kind: float):
        """`kind` in [0, 1) says which arrangement: a stack, what a folder holds together, forks, or a sum."""
        if kind < 0.35:
            return tuple(self.rng.choice(self.residents) for _ in range(self.rng.choice((0, 1, 1, 1, 2, 3))))
        if kind < 0.45:
            return (self.rng.choice(self.gathered),)
        if kind < 0.5:
            return (self.rng.choice(self.routed or self.gathered),)
        if kind < 0.9:
            bottom = (self.rng.choice(self.residents),) if self.rng.random() < 0.3 else ()
            return (*bottom, *random_members(self.rng, self.bottlenecks, self.fusions))
        return (add((self.rng.choice(self.loras),), (self.rng.choice(self.loras),)),)

    def row(self, kind_of_members: float) -> tuple[Row, str]:
        rng, length = self.rng, self.rng.randint(2, 15)
        kind = rng.choice(self.kinds) if rng.random() < 0.6 else None
        head = rng.choice([r for r in self.residents if r.adapter.head.type == kind]) if kind else None
        embedding = self.embedding if rng.random() < 0.3 else None
        ids = builders.ids(rng.randrange(10**6), length) % 55
        geometry, decoder_ids = self.backbone.profile.geometry, None
        if geometry.encoder_layers:
            ids[-1] = geometry.eos_token_id
            decoder_ids = rng.choice((None, builders.ids(rng.randrange(10**6), rng.randint(1, 9)) % 55))
        row = Row(
            self.members(kind_of_members),
            head,
            embedding,
            ids,
            skip_layers=frozenset({1}) if rng.random() < 0.15 else frozenset(),
            word_starts=tuple(sorted(rng.sample(range(length + 1), 2))) if kind == "dependency_parsing" else None,
            positions=(rng.randrange(length),) if kind == "masked_lm" else None,
            decoder_ids=decoder_ids,
        )
        return row, "logits" if head else "hidden_state"

    def exactly(self, row: Row, want: str) -> torch.Tensor:
        """The row's output in float64, by torch's operations."""
        kept: dict[int, object] = {
            id(resident.adapter): resident.adapter for resident in (*self.residents, *self.fusions)
        }
        kept |= {id(self.arena): self.arena.double(), id(self.embedding): self.exact_embedding}
        return self.exact.run([deepcopy(row, kept)], [want])[0]

    def pool(self) -> Sequence[Drawn]:
        """Rows that can run, each with its output alone."""
        found: list[Drawn] = []
        while len(found) < POOL:
            row, want = self.row(len(found) % 20 / 20)  # every arrangement has its share, however often it fails
            try:
                states, answer = self.backbone.run([row, row], ["hidden_state", want])
            except InvalidRow:
                continue  # adapters that can not be arranged so
            alone = self.backbone.run([row], [want])[0]
            magnitude = max(float(states.abs().max()), float(answer.abs().max()))
            exact = self.exactly(row, want)
            own, others = (float((answer - exact).abs().max()) for answer in (alone, self.plain.run([row], [want])[0]))
            assert own <= max(10 * others, ROUNDING * magnitude), (row.members, own, others)
            if max(own, others) > STEADY * magnitude:
                continue
            found.append(Drawn(row, want, alone, magnitude))
        return found


@pytest.mark.parametrize("family", (*FAMILIES, *builders.SEQ2SEQ))
def test_two_hundred_and_fifty_batches_of_every_family(family):
    draw = Draw(family)
    pool = draw.pool()
    methods = {block.method for item in pool for r in item.row.members if isinstance(r, Resident) for blocks in r.adapter.blocks.values() for block in blocks}  # fmt: skip
    kinds = {member.kind for item in pool for member in item.row.members if not isinstance(member, Resident)}
    assert kinds >= {"average", "split", "fuse", "sum"}
    assert len(methods) >= 5  # some families take neither prefixes nor prompts
    rare = {"seq2seq_lm"} if family in builders.SEQ2SEQ else {"masked_lm", "dependency_parsing"}
    assert {item.row.head.adapter.head.type for item in pool if item.row.head} >= rare
    own = {id(resident) for resident in draw.gathered}
    assert any(id(item.row.first) in own and not item.row.route for item in pool)
    assert any(item.row.route for item in pool) == bool(draw.routed)
    for batch in range(BATCHES):
        drawn = [draw.rng.choice(pool) for _ in range(draw.rng.randint(2, 24))]
        together = draw.backbone.run([item.row for item in drawn], [item.want for item in drawn])
        for item, mixed in zip(drawn, together, strict=True):
            assert mixed.shape == item.alone.shape
            error = float((mixed - item.alone).abs().max())
            assert error <= TOLERANCE * item.magnitude, (batch, item.row.members, error)
