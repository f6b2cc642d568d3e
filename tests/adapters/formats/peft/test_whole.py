import pytest
import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.formats.peft import folder as peft
from adapters.formats.peft.host import Host
from adapters.formats.peft.whole import modules
from adapters.manifest import Manifest, PartSpec
from adapters.requires import Requires
from adapters.weights import Package
from tests.adapters.formats.folders import H, peft_config, peft_folder, profile, tensors
from tests.adapters.formats.peft.reading import assert_same, sites

GPT2 = profile("gpt2")
HOST = Host(GPT2.geometry.architecture, 2, prefixed=False)
PATH = "h.0.attn.c_attn"


def loras(ranks: dict[str, int], scalings: dict[str, float], **more: tuple[int, ...]) -> Package:
    """LoRA at parts of the first layer's wide map, and of the second's feed-forward."""
    held = {f"0/attn_{p}": {"rank": r, "scaling": scalings[p], "bias": "lora_bias" in more} for p, r in ranks.items()}
    shapes = {f"0/attn_{p}/lora_A": (r, H) for p, r in ranks.items()}
    shapes |= {f"0/attn_{p}/lora_B": (H, r) for p, r in ranks.items()}
    shapes |= {f"0/attn_{p}/{name}": shape for p in ranks for name, shape in more.items()}
    requires = Requires("gpt2", H, 2, 2)
    return Package(Manifest("adapter", requires, (PartSpec("lora", {"sites": held}),)), tensors(shapes))


def whole_delta(package: Package) -> tuple[Tensor, Tensor]:
    """(delta of the wide map as it is written, as its parts mean it), [3 * H, H]."""
    held = package.manifest.parts[0].config["sites"]
    (module,) = modules(held, package.tensors, HOST)
    assert module.path == PATH
    written = module.settings["scaling"] * module.tensors["lora_B"] @ module.tensors["lora_A"]
    means = torch.zeros(3 * H, H)
    for number, part in enumerate("qkv"):
        if (site := f"0/attn_{part}") in held:
            up, down = package.tensors[f"{site}/lora_B"], package.tensors[f"{site}/lora_A"]
            means[number * H : (number + 1) * H] = held[site]["scaling"] * up @ down
    assert module.settings["rank"] == len(module.tensors["lora_A"])
    return written, means


@pytest.mark.parametrize(
    ("ranks", "scalings"),
    [
        ({"q": 2, "k": 3, "v": 1}, {"q": 1.0, "k": 0.5, "v": 2.0}),
        ({"q": 2, "v": 2}, {"q": 4.0, "v": 4.0}),
        ({"k": 3}, {"k": 1.5}),
    ],
)
def test_parts_of_any_ranks_become_one_of_their_sum(ranks, scalings):
    written, means = whole_delta(loras(ranks, scalings))
    assert torch.allclose(written, means, atol=1e-5)


def test_what_was_read_as_one_is_written_as_that_one_again(tmp_path):
    keys = {f"base_model.model.h.{i}.attn.c_attn.lora_{m}.weight": s for i in range(2) for m, s in (("A", (4, H)), ("B", (3 * H, 4)))}  # fmt: skip
    keys |= {f"base_model.model.h.{i}.attn.c_attn.lora_magnitude_vector": (3 * H,) for i in range(2)}
    config = peft_config(task_type=None, target_modules=["c_attn"], modules_to_save=None, fan_in_fan_out=True, use_dora=True, r=4)  # fmt: skip
    package = peft.read(peft_folder(tmp_path / "in", config, keys), GPT2)
    assert set(sites(package)) == {"0/attn_qkv", "1/attn_qkv"}
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", GPT2))
    bare = Package(Manifest("adapter", package.manifest.requires, package.manifest.parts), package.tensors)
    peft.write(bare, tmp_path / "bare")
    assert peft.read(tmp_path / "bare", GPT2).manifest.parts == package.manifest.parts


def test_a_bias_is_scaled_with_its_part_and_missing_ones_are_zero():
    package = loras({"q": 2, "v": 2}, {"q": 2.0, "v": 1.0}, lora_bias=(H,))
    (module,) = modules(package.manifest.parts[0].config["sites"], package.tensors, HOST)
    q, k, v = (module.tensors["lora_bias"] * 2.0).chunk(3)
    assert torch.allclose(q, 2.0 * package.tensors["0/attn_q/lora_bias"])
    assert torch.allclose(v, package.tensors["0/attn_v/lora_bias"])
    assert not k.any()


def test_what_does_not_go_together_is_refused():
    package = loras({"q": 2, "v": 2}, {"q": 2.0, "v": 1.0}, magnitude=(H,))
    held = {site: {**settings, "dora": "peft"} for site, settings in package.manifest.parts[0].config["sites"].items()}
    with pytest.raises(Misfit, match="DoRA stretches all of"):
        modules(held, package.tensors, HOST)
    held = package.manifest.parts[0].config["sites"]
    with pytest.raises(Misfit, match="one kind of LoRA"):
        modules({**held, "0/attn_q": {**held["0/attn_q"], "bias": True}}, package.tensors, HOST)


def scales(at: str, names: str, width: int) -> tuple[dict, dict]:
    held = {f"0/attn_{part}": {"at": at, "scaling": 2.0 if part == "q" else 3.0} for part in names}
    return held, {f"{site}/scale": torch.rand(width) + 0.5 for site in held}


def test_factors_of_outputs_stand_below_one_another_with_ones_between():
    held, stored = scales("output", "qv", H)
    (module,) = modules(held, stored, HOST)
    q, k, v = (module.tensors["scale"] * module.settings["scaling"]).chunk(3)
    assert torch.allclose(q, 2.0 * stored["0/attn_q/scale"])
    assert torch.allclose(k, torch.ones(H))
    assert torch.allclose(v, 3.0 * stored["0/attn_v/scale"])


def test_factors_of_inputs_must_be_those_of_all_parts():
    held, stored = scales("input", "qkv", H)
    with pytest.raises(Misfit, match="one vector of factors"):
        modules(held, stored, HOST)
    alike = {site: {"at": "input", "scaling": 1.0} for site in held}
    one = next(iter(stored.values()))
    (module,) = modules(alike, dict.fromkeys(stored, one), HOST)
    assert torch.equal(module.tensors["scale"], one)
