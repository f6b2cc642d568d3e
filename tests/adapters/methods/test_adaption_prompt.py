import pytest
import torch

from adapters.architectures.profile import read_profile
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.adaption_prompt import ADAPTION_PROMPT
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.fold import fitting_of
from tests.adapters import builders
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

CONFIG = {"length": 3, "layers": [1]}
PLACE = Address(1, "attn_kv")
HEADS, GROUPS, WIDTH = 4, 2, HIDDEN // 4  # of the tiny LLaMA: two heads of queries share each of keys


def fitting(family="llama"):
    """The family's, with random frozen maps: another one for every site."""
    plain = fitting_of(builders.profile(family))

    def base(address: Address) -> BaseMap:
        wide, out = plain.widths(address.site)
        generator = torch.Generator().manual_seed(sum(map(ord, address.site)))
        return BaseMap(torch.randn(out, wide, generator=generator), torch.randn(out, generator=generator))

    return Fitting(plain.geometry, plain.architecture, base)


def stored(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ADAPTION_PROMPT.shapes(CONFIG, fitting())
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def reference(q, tensors):
    """One row's share [tokens, hidden] head by head, as the paper has it."""
    prompt, gate = tensors[f"{PLACE}/prompt"], tensors[f"{PLACE}/gate"]
    (wk, bk), (wv, bv) = (fitting().base(Address(1, site)) for site in ("attn_k", "attn_v"))
    keys, values = prompt @ wk.T + bk, prompt @ wv.T + bv
    out = []
    for head in range(HEADS):
        group = slice(head // (HEADS // GROUPS) * WIDTH, (head // (HEADS // GROUPS) + 1) * WIDTH)
        weights = (q[:, head] @ keys[:, group].T / WIDTH**0.5).softmax(-1)
        out.append(gate * (weights @ values[:, group]))
    return torch.cat(out, dim=1)


def test_equals_the_reference_of_every_row():
    held = [stored(seed) for seed in (1, 2, 3)]
    operand = operands.operand([ADAPTION_PROMPT.fold(CONFIG, one, fitting())[PLACE] for one in held])
    q = operands.tokens(HIDDEN, 5).view(-1, HEADS, WIDTH)
    found = ADAPTION_PROMPT.beside(q, operand)
    for row, segment in enumerate(operands.OWNER):
        own = slice(*operands.ROWS[row])
        assert torch.allclose(found[own], reference(q[own], held[segment]), atol=1e-4, rtol=1e-4)


def test_a_gate_of_zero_adds_nothing_and_the_form_is_the_familys():
    tensors = stored(1) | {f"{PLACE}/gate": torch.zeros(1)}
    operand = operands.operand([ADAPTION_PROMPT.fold(CONFIG, tensors, fitting())[PLACE]] * 3)
    assert not ADAPTION_PROMPT.beside(operands.tokens(HIDDEN, 5).view(-1, HEADS, WIDTH), operand).any()
    assert not ADAPTION_PROMPT.past_map(operand)
    gpt = {f"{PLACE}/prompt": torch.ones(3, HIDDEN), f"{PLACE}/gate": torch.ones(1)}
    folded = ADAPTION_PROMPT.fold(CONFIG, gpt, fitting("gpt2"))[PLACE]
    assert ADAPTION_PROMPT.past_map(operands.operand([folded] * 3))


@pytest.mark.parametrize(
    ("family", "config", "reason"),
    [
        ("bert", CONFIG, "PEFT has it for gpt2, llama, mistral alone, not for bert"),
        ("qwen2", CONFIG, "not for qwen2"),
        ("llama", CONFIG | {"layers": [2]}, "layers must be ascending numbers below 2"),
        ("llama", CONFIG | {"length": 0}, "length must be an integer"),
        ("llama", CONFIG | {"gated": True}, "unknown setting 'gated'"),
    ],
)
def test_what_it_can_not_be_put_into_is_refused(family, config, reason):
    with pytest.raises(Misfit, match=reason):
        ADAPTION_PROMPT.shapes(config, fitting_of(builders.profile(family)))


def test_heads_that_are_wider_than_the_states_are_refused_as_the_library_fails_there():
    wide = read_profile(builders.variant("llama", head_dim=12))
    with pytest.raises(Misfit, match="as wide as the states"):
        ADAPTION_PROMPT.shapes(CONFIG, fitting_of(wide))
