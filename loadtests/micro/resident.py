"""`python -m loadtests.micro.resident`: from a file of 3 MB to an adapter that rows can use.

Three stages, each on fresh bytes: the native package is read and checked in full (as at publish), the engine's cache
fetches it from the blob store and verifies its digest, and it is read, fitted, folded and copied to its slot. The second
and third are one `TieredCache.acquire`, as for the first request of a cold adapter.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters.architectures.geometry import Geometry
from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.backbone import Backbone
from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier
from adapters.cache.host import HostTier
from adapters.cache.tiered import TieredCache
from adapters.formats import check, native
from adapters.methods.presets import SEQ_BN
from adapters.refs import AdapterRef
from loadtests.micro.mixed import minilm
from loadtests.synthetic import make_package
from serving.engine.loading import Loader

WAIT_S = 60.0
LIMIT_MS = 50.0


@dataclass(frozen=True)
class Loaded:
    """Seconds of one adapter's way, and its bytes."""

    nbytes: int
    checked: float
    acquired: float

    @property
    def seconds(self) -> float:
        """The whole way."""
        return self.checked + self.acquired


def sized(method: str, geometry: Geometry, nbytes: int) -> dict[str, Any]:
    """The configuration of a bottleneck or LoRA of about so many bytes in float32; raises `KeyError`."""
    layers, hidden = range(geometry.layers), geometry.hidden_size
    width = max(1, round(nbytes / 4 / (2 * hidden * geometry.layers)))
    made: Mapping[str, dict[str, Any]] = {
        "bottleneck": {**SEQ_BN, "sites": {f"{layer}/ffn_junction": {"width": width} for layer in layers}},
        "lora": {
            "sites": {
                f"{layer}/{site}": {"rank": max(1, width // 2), "scaling": 1.0, "bias": False}
                for layer in layers
                for site in ("attn_q", "attn_v")
            }
        },
    }
    return made[method]


def load(path: Path, cache: TieredCache, ref: AdapterRef, profile: BackboneProfile) -> Loaded:
    """One adapter's way from its file to a lease."""
    begun = time.perf_counter()
    check.check(native.read(path), profile)
    checked = time.perf_counter()
    cache.acquire((ref,), WAIT_S).release()
    return Loaded(path.stat().st_size, checked - begun, time.perf_counter() - checked)


def measure(backbone_folder: Path, method: str, nbytes: int, rounds: int) -> list[Loaded]:
    """The ways of `rounds` different adapters; the first two warm up and are left out."""
    backbone = Backbone.load(backbone_folder)
    profile, found = read_profile(backbone_folder), list[Loaded]()
    with tempfile.TemporaryDirectory() as folder:
        blobs = Path(folder) / "blobs"
        blobs.mkdir()
        tiers = (DiskTier(Path(folder) / "cache", 1 << 30), HostTier(1 << 30), DeviceTier(256 << 20))
        loader = Loader(profile, torch.float32, backbone.base_maps)
        cache = TieredCache(*tiers, loader.load, lambda digest: blobs / digest.partition(":")[2])
        try:
            for seed in range(rounds + 2):
                config = sized(method, profile.geometry, nbytes)
                data = native.write(make_package(profile, method, f"resident-{seed}", seed, config=config))
                ref = AdapterRef("bench", f"a{seed}", 1, native.digest(data))
                path = blobs / ref.digest.partition(":")[2]
                path.write_bytes(data)
                found.append(load(path, cache, ref, profile))
        finally:
            cache.close()
    return found[2:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 where the median of the whole way is over the limit."""
    args = argparse.ArgumentParser(prog="python -m loadtests.micro.resident", description=__doc__)
    args.add_argument("--backbone", type=Path, help="model folder; default is the installed all-MiniLM-L6-v2")
    args.add_argument("--method", choices=("bottleneck", "lora"), default="bottleneck")
    args.add_argument("--bytes", type=int, default=3_000_000)
    args.add_argument("--rounds", type=int, default=20)
    args.add_argument("--limit-ms", type=float, default=LIMIT_MS)
    given = args.parse_args(arguments)
    found = measure(given.backbone or minilm(), given.method, given.bytes, given.rounds)
    median = 1e3 * statistics.median(way.seconds for way in found)
    stages = {
        "read and checked": [way.checked for way in found],
        "fetched and resident": [way.acquired for way in found],
    }
    print(f"{given.method}, {found[0].nbytes} bytes, median of {len(found)}:")
    for name, seconds in stages.items():
        print(f"{name:<22}{1e3 * statistics.median(seconds):8.1f} ms")
    print(f"{'in all':<22}{median:8.1f} ms (limit {given.limit_ms:g}, worst {1e3 * max(w.seconds for w in found):.1f})")
    return 0 if median <= given.limit_ms else 1


if __name__ == "__main__":
    sys.exit(main())
