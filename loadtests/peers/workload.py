"""The common work: a backbone, rows of its tokens, and an adapter per row and method in every library's own format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.formats import native
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.peft import folder as peft
from adapters.methods.fold import fitting_of
from adapters.methods.presets import parts_of
from adapters.weights import Package
from loadtests.micro.mixed import lengths, minilm
from loadtests.peers.contenders import BOTTLENECK, DOUBLE, LORA
from loadtests.synthetic import make_package

MINILM, BASE = "minilm", "bert-base"
SPECIAL_IDS = 5  # the first ones, which texts do not hold
# Preset of AdapterHub's, and what is not as it has it.
PRESETS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    BOTTLENECK: ("seq_bn", {}),
    DOUBLE: ("double_seq_bn", {}),
    LORA: ("lora", {"r": 8, "alpha": 16}),
}


@dataclass(frozen=True)
class Workload:
    """One backbone with its rows; `adapters` holds METHOD/native, METHOD/adapterhub and, for LoRA, METHOD/peft."""

    backbone: Path
    adapters: Path
    rows: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(map(len, self.rows))


def seeded_base(cache: Path) -> Path:
    """A model of BERT-base's shape with seeded weights, made on first use: 12 layers of 768, 12 heads, 30,522 words."""
    return _seeded(cache / "bert-base-seeded", BertConfig())


def _seeded(folder: Path, config: BertConfig) -> Path:
    if not (folder / "config.json").is_file():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = BertModel(config, add_pooling_layer=False)
        half = folder.with_name(f"{folder.name}-half")
        model.save_pretrained(half)
        half.rename(folder)
    return folder


BACKBONES: Mapping[str, Callable[[Path], Path]] = {MINILM: lambda _: minilm(), BASE: seeded_base}


def make_workload(backbone: Path, folder: Path, rows: int, methods: tuple[str, ...], seed: int) -> Workload:
    """Rows with log-normal lengths (mean 32, sigma 0.6, clipped to 8..128), and their adapters in a new folder.

    The same arguments give the same bytes.
    """
    profile = read_profile(backbone)
    rng = np.random.default_rng(seed)
    vocabulary = profile.geometry.vocabulary
    ids = [tuple(rng.integers(SPECIAL_IDS, vocabulary, size=int(n)).tolist()) for n in lengths(rows, seed)]
    for method in methods:
        _write(profile, method, folder / method, rows, seed)
    return Workload(backbone, folder, tuple(ids))


def _write(profile: BackboneProfile, method: str, folder: Path, count: int, seed: int) -> None:
    preset, overrides = PRESETS[method]
    (part,) = parts_of(preset, fitting_of(profile), **overrides)
    (folder / "native").mkdir(parents=True)
    for number in range(count):
        name = f"{method}-{number}"
        package = _headless(make_package(profile, part.method, name, seed, config=part.config))
        (folder / "native" / f"{number}.safetensors").write_bytes(native.write(package))
        adapterhub.write(package, folder / "adapterhub" / str(number), name=name)
        if method == LORA:
            peft.write(package, folder / "peft" / str(number))


def _headless(package: Package) -> Package:
    """Without its head: what is compared are hidden states, which every library gives."""
    tensors = {name: tensor for name, tensor in package.tensors.items() if not name.startswith("head/")}
    return Package(replace(package.manifest, head=None), tensors)
