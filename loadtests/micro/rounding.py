"""`python -m loadtests.micro.rounding`: how far bfloat16 takes the answers of each method from those in float32.

The same rows, each under an adapter of its own, in both types: the cosine between the last hidden states of every
token (those that a prompt inserts are left out), and the largest distance between logits, as a share of the largest logit.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from adapters.batch.rows import Row, own_tokens
from loadtests.micro.mixed import build, minilm
from loadtests.micro.promises import METHODS

LEAST = 0.9995


@dataclass(frozen=True)
class Deviation:
    """What rounding does to one method; cosines over tokens."""

    method: str
    least_cosine: float
    mean_cosine: float
    logits: float

    @property
    def holds(self) -> bool:
        """Whether no token's states turn further than is promised."""
        return self.least_cosine >= LEAST


def deviation(folder: Path, method: str, rows: int, seed: int) -> Deviation:
    """Run the rows in both types; raises `KeyError` for an unknown method."""
    (exact, logits), (rounded, own) = (_answers(folder, method, rows, seed, t) for t in (torch.float32, torch.bfloat16))
    cosines = functional.cosine_similarity(exact.double(), rounded.double(), dim=-1)
    apart = float((logits - own).abs().max() / logits.abs().max())
    return Deviation(method, round(float(cosines.min()), 6), round(float(cosines.mean()), 6), round(apart, 5))


def _answers(folder: Path, method: str, rows: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(last hidden states of all own tokens, logits [rows, labels])."""
    bench = build(folder, rows, [method], seed, dtype)
    made = [Row((held,), held, None, ids) for held, ids in zip(bench.residents, bench.ids, strict=True)]
    states = bench.backbone.run(made, ["hidden_state"] * rows)
    kept = [state[torch.from_numpy(own_tokens(row))] for state, row in zip(states, made, strict=True)]
    return torch.cat(kept), torch.stack(bench.backbone.run(made, ["logits"] * rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a line of JSON for each method; exit code 1 where one is further off than is promised."""
    args = argparse.ArgumentParser(prog="python -m loadtests.micro.rounding", description=__doc__)
    args.add_argument("--backbone", type=Path, help="model folder; default is the installed all-MiniLM-L6-v2")
    args.add_argument("--method", default=",".join(METHODS), help="several with commas; all, if left out")
    args.add_argument("--rows", type=int, default=32)
    args.add_argument("--seed", type=int, default=0)
    given = args.parse_args(arguments)
    methods = given.method.split(",")
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        args.error(f"unknown method {', '.join(unknown)}; known are {', '.join(METHODS)}")
    found = []
    for method in methods:
        found.append(deviation(given.backbone or minilm(), method, given.rows, given.seed))
        print(json.dumps({**asdict(found[-1]), "holds": found[-1].holds}), flush=True)
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
