import pytest
import torch
from torch.nn import functional

from adapters.architectures.families import architecture_of
from adapters.architectures.sites import Address
from adapters.backbone import Backbone
from adapters.batch.norms import run_norm
from adapters.batch.program import Step
from adapters.batch.rows import Row
from adapters.errors import InvalidArrangement, InvalidRows
from adapters.kernels.norms import FrozenNorm
from adapters.manifest import PartSpec
from adapters.methods.fold import fold
from adapters.methods.norms import NORMS
from adapters.weights import Package, alone
from tests.adapters import builders
from tests.adapters.builders import FAMILIES, HIDDEN
from tests.adapters.methods import operands

CONFIG = {"sites": {"0/ffn_norm": {"weight": True, "bias": True}}}


def test_rows_of_the_program_are_normed_anew_and_all_others_kept():
    norm, x = FrozenNorm(torch.randn(HIDDEN), torch.randn(HIDDEN), 1e-3), operands.tokens(HIDDEN, 1)
    blocks = [
        NORMS.fold(CONFIG, operands.stored(NORMS, CONFIG, seed), operands.fitting())[Address(0, "ffn_norm")]
        for seed in (1, 2)
    ]
    operand = operands.operand(blocks)
    runs = type(operand.runs)(((0, 5), (6, 12)), ((0, 3), (3, 5), (5, 11)), 12, torch.device("cpu"))
    step = Step("norms", type(operand)(None, runs, operand.params), enters=True, first=True, leaves=True)
    before = norm(x)
    out = run_norm((step,), x, before.clone(), norm)
    assert torch.equal(out[5], before[5])
    for (start, end), block in zip(runs.bounds, blocks, strict=True):
        wanted = functional.layer_norm(
            x[start:end], (HIDDEN,), block.tensors["weight"], block.tensors["bias"], eps=1e-3
        )
        assert torch.allclose(out[start:end], wanted, atol=1e-5)


def norms_of(family: str) -> PartSpec:
    """Every norm that a family has; those by mean squares have no bias."""
    modules = norm_modules(builders.backbone(family), family)
    sites = {str(a): {"weight": True, "bias": isinstance(norm, torch.nn.LayerNorm)} for a, norm in modules}
    return PartSpec("norms", {"sites": sites})


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("family", [family for family in FAMILIES if architecture_of(family).norms])
def test_an_adapters_norms_are_those_of_a_model_that_has_them_for_its_own(family, gradients):
    """Both ways through a layer: the quick one of families that are built as BERT, and the model's own."""
    package = builders.package(family, [norms_of(family)])
    own_norm = builders.profile(family).geometry.architecture.own_norm_path
    changed = builders.changed(
        builders.folder(family),
        {
            f"{own_norm(address)}.{name}": package.tensors[f"{address}/{name}"]
            for address, norm in norm_modules(builders.backbone(family), family)
            for name in ("weight", "bias")
            if getattr(norm, name, None) is not None
        },
    )
    for address, norm in norm_modules(changed, family):
        if f"{address}/bias" in package.tensors and norm.bias is None:
            norm.bias = torch.nn.Parameter(package.tensors[f"{address}/bias"], requires_grad=False)
    wanted = plain_states(changed, builders.ids(1, 9))
    backbone = builders.backbone(family)
    resident = alone(fold(package, builders.profile(family), torch.float32, backbone.base_maps))
    rows = [Row(members, None, None, builders.ids(1, 9)) for members in ((), (resident,), ())]
    with torch.set_grad_enabled(gradients):
        out = backbone.forward(backbone.plan(rows, [False] * 3)).hidden if gradients else None
    mixed = backbone.run(rows, ["hidden_state"] * 3)
    bare = backbone.run(rows[:1], ["hidden_state"])[0]
    own = mixed[1] if out is None else out.detach().view(3, 9, -1)[backbone.plan(rows, [False] * 3).order.index(1)]
    assert torch.allclose(own, wanted, atol=1e-4)
    assert torch.allclose(mixed[0], bare, atol=1e-5)
    assert float((own - bare).abs().max()) > 0.1


def norm_modules(backbone: Backbone, family: str):
    record = builders.profile(family).geometry.architecture
    for address in record.addresses(builders.LAYERS):
        if address.site.endswith("_norm"):
            yield address, backbone.model.get_submodule(record.own_norm_path(address))


def plain_states(backbone: Backbone, ids) -> torch.Tensor:
    """A row through the model's own modules, whose norms were changed."""
    with torch.enable_grad():
        return backbone.forward(backbone.plan([Row((), None, None, ids)], [False])).hidden.detach()


def test_hooks_hang_on_norms_only_in_passes_that_want_them():
    backbone = builders.backbone("modernbert")
    resident = alone(builders.adapter("modernbert", [norms_of("modernbert")]))
    norm = backbone.model.get_submodule("layers.1.mlp_norm")
    before = len(norm._forward_hooks)
    plan = backbone.plan([Row((resident,), None, None, builders.ids(1, 5))], [False])
    with torch.inference_mode(), backbone._injection.bind(plan):
        assert len(norm._forward_hooks) == before + 1
    assert len(norm._forward_hooks) == before


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (("norms", "norms"), "two adapters replace the norm"),
        (("norms", "seq_bn"), "an adapter that replaces norms can not be arranged"),
    ],
)
def test_norms_are_replaced_once_and_not_beside_adapters_that_work_with_them(parts, reason):
    members = [alone(builders.adapter("bert", [builders.PARTS[part]], seed=i)) for i, part in enumerate(parts)]
    with pytest.raises(InvalidRows, match=reason) as caught:
        builders.backbone("bert").run([Row(tuple(members), None, None, builders.ids(1, 5))], ["hidden_state"])
    assert all(isinstance(error, InvalidArrangement) for error in caught.value.faults.values())


def test_biases_of_norms_alone_need_the_backbones_weights():
    part = PartSpec("norms", {"sites": {"0/ffn_norm": {"bias": True}}})
    package, backbone = builders.package("bert", [part]), builders.backbone("bert")
    with_base = fold(package, builders.profile("bert"), torch.float32, backbone.base_maps)
    without = fold(Package(package.manifest, package.tensors), builders.profile("bert"), torch.float32)
    assert with_base.nbytes == without.nbytes
    assert not torch.equal(with_base.flat, without.flat)
