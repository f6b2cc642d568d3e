"""Synthetic adapters of several methods, made from random weights for any backbone, each with a head of its own labels."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.architectures.profile import BackboneProfile
from adapters.formats import native
from adapters.manifest import HeadSpec, Manifest, PartSpec, Provenance
from adapters.methods.fold import expected
from adapters.methods.presets import SEQ_BN
from adapters.requires import Requires
from adapters.weights import Package

LABELS = 3


@dataclass(frozen=True)
class SyntheticAdapter:
    """A package ready to publish. The labels hold the name, so that an answer of another adapter's head shows."""

    name: str
    method: str
    labels: tuple[str, ...]
    digest: str
    data: bytes


def make_adapters(
    profile: BackboneProfile, count: int, seed: int, methods: Sequence[str] = (), prefix: str = "load"
) -> tuple[SyntheticAdapter, ...]:
    """`count` adapters, methods in turn; the same arguments give the same bytes."""
    chosen = tuple(methods) or tuple(CONFIGS)
    made = []
    for i in range(count):
        method, name = chosen[i % len(chosen)], f"{prefix}-{seed}-{i:05d}"
        package = make_package(profile, method, name, seed)
        data = native.write(package)
        head = package.manifest.head
        assert head is not None
        made.append(SyntheticAdapter(name, method, head.labels, native.digest(data), data))
    return tuple(made)


def make_package(
    profile: BackboneProfile,
    method: str,
    name: str,
    seed: int,
    *,
    labels: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Package:
    """One adapter with a classification head; without `labels` they hold the name, without `config` it is that of `CONFIGS`.

    Raises `KeyError` for a method that is not there.
    """
    geometry = profile.geometry
    manifest = Manifest(
        kind="adapter",
        requires=Requires(geometry.model_type, geometry.hidden_size, geometry.layers, geometry.heads),
        parts=(PartSpec(method, CONFIGS[method](geometry) if config is None else config),),
        head=HeadSpec(
            type="classification",
            layers=1,
            activation=None,
            bias=True,
            pooling="first_token",
            labels=tuple(labels) or tuple(f"{name}.{k}" for k in range(LABELS)),
            problem_type="single_label",
            name=name,
        ),
        provenance=Provenance("chorus-loadtests", "1"),
    )
    rng = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    shapes = expected(manifest, profile)
    return Package(manifest, {key: _draw(key, shape, rng) for key, shape in sorted(shapes.items())})


def _draw(name: str, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Weights large enough to change every answer, small enough to stay finite in float32."""
    noise = torch.randn(shape, generator=rng)
    parameter = name.rsplit("/", 1)[-1]
    if parameter == "scale":
        return 1 + 0.3 * noise
    if name.startswith("head/"):
        return noise if parameter == "bias" else noise / shape[-1] ** 0.5
    return noise * 0.1


def bottleneck(geometry: Geometry, width: int) -> dict[str, Any]:
    """A bottleneck of so many units after the feed-forward part of every layer."""
    return {**SEQ_BN, "sites": {f"{layer}/ffn_junction": {"width": width} for layer in _layers(geometry)}}


def lora(geometry: Geometry, rank: int) -> dict[str, Any]:
    """LoRA of queries and values in every layer, with 2 for its scaling."""
    site = {"rank": rank, "scaling": 2.0, "bias": False}
    return {"sites": {f"{layer}/{name}": site for layer in _layers(geometry) for name in ("attn_q", "attn_v")}}


def _ia3(geometry: Geometry) -> dict[str, Any]:
    site = {"at": "output", "scaling": 1.0}
    return {
        "sites": {f"{layer}/{name}": site for layer in _layers(geometry) for name in ("attn_k", "attn_v", "ffn_in")}
    }


def _prefix_tuning(geometry: Geometry) -> dict[str, Any]:
    return {"length": 8, "flat": True, "layers": list(_layers(geometry)), "bottleneck": None}


def _prompt_tuning(_: Geometry) -> dict[str, Any]:
    return {"length": 4, "at": "prefix"}


def _layers(geometry: Geometry) -> range:
    return range(geometry.layers)


CONFIGS: Mapping[str, Callable[[Geometry], dict[str, Any]]] = {
    "bottleneck": lambda geometry: bottleneck(geometry, max(4, geometry.hidden_size // 16)),
    "lora": lambda geometry: lora(geometry, 8),
    "ia3": _ia3,
    "prefix_tuning": _prefix_tuning,
    "prompt_tuning": _prompt_tuning,
}
