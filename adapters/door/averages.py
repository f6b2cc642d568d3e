"""One adapter from several: the weighted mean of their parameters, or of the updates that LoRAs stand for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.manifest import PartSpec
from adapters.weights import Package

A, B = "lora_A", "lora_B"


def average(packages: Sequence[Package], weights: Sequence[float], strategy: str, rank: int | None) -> Package:
    """The average of packages with equal parts; raises `Misfit`.

    linear                     sum_i w_i t_i of every tensor t (Chronopoulou et al. 2023, arXiv:2311.09344)
    lora_linear_only_negate_b  sum_i |w_i| A_i and sum_i w_i B_i (Zhang et al. 2023, arXiv:2306.14870)
    lora_delta_w_svd           B A of the given rank nearest to sum_i w_i B_i A_i (AdapterHub leaves the scaling out)
    """
    first = packages[0].manifest
    if any(package.manifest.parts != first.parts for package in packages):
        raise Misfit(["the adapters differ in their configurations: they can not be averaged"])
    if any(package.manifest.route != first.route for package in packages):
        raise Misfit(["the adapters differ in their layer_replication: they can not be averaged"])
    combine = STRATEGIES.get(strategy)
    if combine is None:
        raise Misfit([f"{strategy!r} is no way to combine adapters; there are {', '.join(STRATEGIES)}"])
    if strategy != "linear" and any(not _is_plain_lora(part) for part in first.parts):
        raise Misfit([f"{strategy} is for LoRA alone, without gates, biases and DoRA"])
    parts = first.parts
    if strategy == "lora_delta_w_svd":
        if rank is None or rank < 1:
            raise Misfit(["lora_delta_w_svd needs svd_rank, the rank of the result"])
        parts = tuple(_of_rank(part, rank) for part in parts)
    elif rank is not None:
        raise Misfit(["svd_rank goes with lora_delta_w_svd alone"])
    tensors = combine([package.tensors for package in packages], weights, rank or 0)
    return Package(replace(first, parts=parts, source={}), tensors)


Stored = Mapping[str, Tensor]


def _linear(stored: Sequence[Stored], weights: Sequence[float], _: int) -> dict[str, Tensor]:
    return {name: _sum([held[name] for held in stored], weights) for name in stored[0]}


def _negate_b(stored: Sequence[Stored], weights: Sequence[float], _: int) -> dict[str, Tensor]:
    sizes = [abs(weight) for weight in weights]
    return {name: _sum([held[name] for held in stored], sizes if name.endswith(A) else weights) for name in stored[0]}


def _svd(stored: Sequence[Stored], weights: Sequence[float], rank: int) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for name in stored[0]:
        if name.endswith(A):
            site = name.removesuffix(A)
            delta = _sum([held[site + B] @ held[name] for held in stored], weights)
            if rank > min(delta.shape):
                raise Misfit([f"svd_rank {rank} is above what {site.rstrip('/')} can have, {min(delta.shape)}"])
            u, s, v = torch.linalg.svd(delta, full_matrices=False)
            made[name], made[site + B] = v[:rank].contiguous(), u[:, :rank] * s[:rank]
    return made


STRATEGIES: Mapping[str, Callable[[Sequence[Stored], Sequence[float], int], dict[str, Tensor]]] = {
    "linear": _linear,
    "lora_linear_only_negate_b": _negate_b,
    "lora_delta_w_svd": _svd,
}


def _sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([tensor * weight for tensor, weight in zip(tensors, weights, strict=True)]).sum(0)


def _is_plain_lora(part: PartSpec) -> bool:
    sites = part.config.get("sites", {}).values()
    return (
        part.method == "lora"
        and "invocation" not in part.config
        and not any(site.get("bias") or site.get("gated") or site.get("dora", "none") != "none" for site in sites)
    )


def _of_rank(part: PartSpec, rank: int) -> PartSpec:
    """The part with another rank; AdapterHub keeps alpha, so that the scaling alpha / r changes with it."""
    sites: dict[str, Any] = {
        site: {**held, "rank": rank, "scaling": held["scaling"] * held["rank"] / rank}
        for site, held in part.config["sites"].items()
    }
    return replace(part, config={**part.config, "sites": sites})
