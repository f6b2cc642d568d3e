from dataclasses import replace

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.fold import fitting_of
from adapters.methods.lora import LORA, LowRank, rank_class, reference
from adapters.weights import Block, Span
from tests.adapters import builders
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

QUERY, WIDEN = Address(0, "attn_q"), Address(1, "ffn_in")
FITTING = operands.fitting()
SITES = {
    "plain": LowRank(3, 1.7),
    "rank_above_one_class": LowRank(11, 0.5),
    "bias": LowRank(3, 1.7, bias=True),
    "gated": LowRank(3, 1.7, gated=True),
    "dora": LowRank(3, 1.7, dora="adapterhub"),
    "dora_of_peft": LowRank(3, 1.7, dora="peft"),
    "gated_dora": LowRank(3, 1.7, gated=True, dora="adapterhub"),
    "base_bias": LowRank(3, 1.7, base_bias=True),
    "base_bias_and_bias": LowRank(3, 1.7, bias=True, base_bias=True),
    "base_bias_and_dora": LowRank(3, 1.7, dora="peft", base_bias=True),
}


def config(site: LowRank, address: Address) -> dict:
    return {"sites": {str(address): vars(site)}}


def stored(site: LowRank, address: Address, seed: int) -> dict[str, torch.Tensor]:
    return operands.stored(LORA, config(site, address), seed)


def block_of(site: LowRank, address: Address, seed: int):
    return LORA.fold(config(site, address), stored(site, address, seed), FITTING)[address]


def names_at(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.rsplit("/", 1)[1]: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("address", [QUERY, WIDEN])
@pytest.mark.parametrize("case", SITES)
def test_equals_the_reference_of_every_row(case, address):
    site, weight, bias = SITES[case], FITTING.weight(address), FITTING.bias(address)
    held = [stored(site, address, seed) for seed in (1, 2, 3)]
    operand = operands.operand([LORA.fold(config(site, address), tensors, FITTING)[address] for tensors in held])
    x = operands.tokens(weight.shape[1], 1)
    out = LORA.apply(LORA.change(None, x, weight, operand), x @ weight.T + bias, x, weight, operand)
    for got, xr, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        assert torch.allclose(got, reference(site, names_at(held[segment]), xr, weight, bias), atol=1e-4)


def test_a_stack_chains_the_deltas_and_its_last_member_applies_them():
    low, top = SITES["gated"], SITES["dora"]
    operand, last = (operands.operand([block_of(s, QUERY, i) for i in seeds]) for s, seeds in ((low, (1, 2, 3)), (top, (4, 5, 6))))  # fmt: skip
    weight, x = FITTING.weight(QUERY), operands.tokens(HIDDEN, 1)
    y = x @ weight.T
    h = LORA.change(LORA.change(None, x, weight, operand), x, weight, last)
    out = LORA.apply(h, y, x, weight, last)
    a, b = names_at(stored(low, QUERY, 1)), names_at(stored(top, QUERY, 4))
    update = b["lora_B"] @ b["lora_A"]
    for got, xr, yr in list(zip(operands.rows(out), operands.rows(x), operands.rows(y), strict=True))[:2]:
        gate = torch.sigmoid(xr @ a["gate.weight"].T + a["gate.bias"]).mean()
        delta = 1.7 * (gate * (xr @ a["lora_A"].T @ a["lora_B"].T)) @ update.T
        assert torch.allclose(got, (yr + delta) * b["magnitude"] / (weight + update).norm(dim=1), atol=1e-4)


def test_the_gate_of_the_upper_member_reads_the_maps_input_and_not_the_state_below():
    operand = operands.operand([block_of(SITES["gated"], QUERY, seed) for seed in (1, 2, 3)])
    weight, x = FITTING.weight(QUERY), operands.tokens(HIDDEN, 1)
    once = LORA.change(x, x, weight, operand)
    assert torch.allclose(LORA.change(2 * x, x, weight, operand), 2 * once, atol=1e-5)
    assert torch.equal(LORA.change(None, x, weight, operand), once)


@pytest.mark.parametrize(("address", "on_top"), [(QUERY, True), (WIDEN, False)])
def test_follows_another_adapter_on_square_maps_alone_and_precedes_one_anywhere(address, on_top):
    tensors = block_of(SITES["plain"], address, 1).tensors
    block = Block("lora", None, {name: Span(0, tuple(tensor.shape)) for name, tensor in tensors.items()})
    assert LORA.chains(block) is on_top
    assert LORA.chains(block, first=True)


def test_folding_merges_the_scaling_and_pads_the_rank_without_changing_the_map():
    held = names_at(stored(SITES["plain"], QUERY, 1))
    block = block_of(SITES["plain"], QUERY, 1)
    assert block.tensors["down"].shape == (8, HIDDEN)
    assert torch.allclose(block.tensors["up"] @ block.tensors["down"], 1.7 * held["lora_B"] @ held["lora_A"], atol=1e-6)


def test_a_gate_replaces_the_scaling():
    one, other = (block_of(replace(SITES["gated"], scaling=s), QUERY, 1) for s in (1.7, 30.0))
    assert torch.equal(one.tensors["up"], other.tensors["up"])


def test_tensors_stored_in_half_precision_are_multiplied_in_single():
    halves = {name: tensor.half() for name, tensor in stored(SITES["plain"], QUERY, 1).items()}
    block = LORA.fold(config(SITES["plain"], QUERY), halves, FITTING)[QUERY]
    assert torch.equal(block.tensors["up"][:, :3], halves["0/attn_q/lora_B"].float() * 1.7)


@pytest.mark.parametrize("case", SITES)
def test_starts_as_the_identity_on_the_backbone_it_is_made_for(case):
    site = replace(SITES[case], scaling=1.0)
    start = LORA.initialise(config(site, QUERY), FITTING, torch.Generator().manual_seed(0))
    weight, bias = FITTING.weight(QUERY), FITTING.bias(QUERY)
    operand = operands.operand([LORA.fold(config(site, QUERY), start, FITTING)[QUERY]] * 3)
    x = operands.tokens(HIDDEN, 1)
    y = x @ weight.T + bias
    assert start["0/attn_q/lora_A"].abs().sum() > 0
    assert torch.allclose(LORA.apply(LORA.change(None, x, weight, operand), y, x, weight, operand), y, atol=1e-4)


@pytest.mark.parametrize("case", SITES)
def test_gradients_of_the_fold_are_those_of_finite_differences(case):
    site = SITES[case]
    held = {name: t.double().requires_grad_() for name, t in stored(replace(site, rank=2), QUERY, 1).items()}
    exact = Fitting(
        FITTING.geometry,
        FITTING.architecture,
        lambda a: BaseMap(FITTING.weight(a).double(), FITTING.bias(a).double()),
    )

    def folded(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = dict(zip(held, values, strict=True))
        return tuple(LORA.fold(config(replace(site, rank=2), QUERY), tensors, exact)[QUERY].tensors.values())

    assert torch.autograd.gradcheck(folded, tuple(held.values()), fast_mode=True)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"gated": True, "dora": "peft"}, "PEFT's DoRA has no gate"),
        ({"bias": True, "gated": True}, "a bias goes with neither"),
        ({"bias": True, "dora": "adapterhub"}, "a bias goes with neither"),
        ({"dora": "yes"}, "dora must be one of 'none', 'adapterhub', 'peft'"),
        ({"gated": 1}, "gated must be true or false"),
        ({"alpha": 8}, "unknown setting 'alpha'"),
    ],
)
def test_settings_that_no_library_has_are_refused(settings, reason):
    with pytest.raises(Misfit, match=reason):
        LORA.shapes(
            {"sites": {"0/attn_q": {"rank": 3, "scaling": 1.0, **settings}}}, fitting_of(builders.profile("bert"))
        )


@pytest.mark.parametrize(("rank", "held"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 128), (129, 192)])
def test_rank_classes(rank, held):
    assert rank_class(rank) == held


WORDS = Address(None, "words")
IDS = torch.tensor([7, 8, 40, 55, 0, 7, 89, 40, 1, 7, 55, 54])[:, None]


@pytest.mark.parametrize("dora", ["none", "peft"])
def test_at_the_table_of_words_ids_stand_for_one_hot_tokens(dora):
    site = LowRank(3, 1.7, dora=dora)
    settings = {"sites": {str(WORDS): {"rank": 3, "scaling": 1.7, "dora": dora}}}
    weight = FITTING.weight(WORDS)
    fitting = replace(FITTING, base=lambda _: BaseMap(weight, torch.zeros(len(weight))))
    held = [operands.stored(LORA, settings, seed) for seed in (1, 2, 3)]
    operand = operands.operand([LORA.fold(settings, one, fitting)[WORDS] for one in held])
    y = weight.T[IDS[:, 0]]
    out = LORA.apply(LORA.change(None, IDS, weight, operand), y, IDS, weight, operand)
    hot = torch.nn.functional.one_hot(IDS[:, 0], weight.shape[1]).float()
    for got, x, segment in zip(operands.rows(out), operands.rows(hot), operands.OWNER, strict=True):
        own = {name.rsplit("/", 1)[1]: tensor for name, tensor in held[segment].items()}
        assert torch.allclose(got, reference(site, own, x, weight, torch.zeros(())), atol=1e-4)
    assert not LORA.settle(IDS, y, operand)


@pytest.mark.parametrize("dora", ["none", "peft"])
def test_a_table_saved_along_becomes_rows_with_the_change_in_them(dora):
    settings = {"sites": {str(WORDS): {"rank": 3, "scaling": 2.0, "base_table": True, "dora": dora}}}
    held = operands.stored(LORA, settings, 1)
    block = LORA.fold(settings, held, FITTING)[WORDS]
    rows = held[f"{WORDS}/base_table"] + 2 * (held[f"{WORDS}/lora_B"] @ held[f"{WORDS}/lora_A"]).T
    if dora == "peft":
        rows = rows * (held[f"{WORDS}/magnitude"] / torch.linalg.vector_norm(rows, dim=0))
    assert block.method == "word_rows"
    assert torch.allclose(block.tensors["rows"], rows, atol=1e-5)


@pytest.mark.parametrize("dora", ["none", "peft"])
@pytest.mark.parametrize("table", ["positions", "segments"])
def test_other_tables_are_folded_whole(table, dora):
    address = Address(None, table)
    settings = {"sites": {str(address): {"rank": 2, "scaling": 1.7, "dora": dora}}}
    held, frozen = operands.stored(LORA, settings, 1), FITTING.weight(address)
    fitting = replace(FITTING, base=lambda _: BaseMap(frozen, torch.zeros(len(frozen))))
    block = LORA.fold(settings, held, fitting)[address]
    rows = frozen.T + 1.7 * (held[f"{address}/lora_B"] @ held[f"{address}/lora_A"]).T
    if dora == "peft":
        rows = rows * (held[f"{address}/magnitude"] / torch.linalg.vector_norm(rows, dim=0))
    assert block.method == "tables"
    assert torch.allclose(block.tensors["rows"], rows - frozen.T, atol=1e-5)


@pytest.mark.parametrize(
    ("place", "settings", "reason"),
    [
        (Address(None, "positions"), {"bias": True}, "neither biases, gates nor starts"),
        (Address(None, "distances"), {}, "no place for it at model/distances"),
        (WORDS, {"bias": True}, "neither biases, gates nor starts"),
        (WORDS, {"gated": True}, "neither biases, gates nor starts"),
        (QUERY, {"base_table": True}, "base_table belongs to model/words"),
        (WORDS, {"base_table": True, "dora": "adapterhub"}, "DoRA over a table"),
        (QUERY, {"base_bias": True, "gated": True}, "a base_bias goes with"),
    ],
)
def test_settings_of_words_and_of_maps_are_told_apart(place, settings, reason):
    with pytest.raises(Misfit, match=reason):
        LORA.shapes({"sites": {str(place): {"rank": 2, "scaling": 1.0, **settings}}}, FITTING)
