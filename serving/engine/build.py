"""What an engine is made of, from the settings: backbone, tiers, loader, budget."""

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from adapters.architectures.geometry import Geometry
from adapters.backbone import Backbone
from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier
from adapters.cache.host import HostTier
from adapters.kernels.choice import kernels_of
from serving.config import BatchSettings, ServiceSettings
from serving.engine.folder import Claim, claim
from serving.engine.forward import BackboneForward, Forward, Work
from serving.engine.loading import Loader
from serving.engine.rehearsal import rows_of, tokens_per_s
from serving.errors import BadRequest, no_gpu
from serving.images.preprocessing import read_preprocessing
from serving.logs import adopt, log
from serving.scheduler.batcher import Budget

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MOST_PIXELS = 256 << 20  # bytes of images that may wait in the queue
BATCH_SHARE = 0.5  # of the device room for one batch: neither pins nor floors may take it; the rest is for the next


@dataclass(frozen=True)
class Parts:
    """All that `Engine` needs; a test may put its own `Forward` here."""

    forward: Forward
    loader: Loader
    disk: DiskTier
    host: HostTier
    device: DeviceTier
    source: Callable[[str], Path]  # digest -> where the registry has the blob
    layers: int
    budget: Budget
    max_queued: int
    release: Callable[[], None]  # called last, at `close`
    step_s: float = BatchSettings.step_s  # how long a step should take
    rehearsal: tuple[Work, ...] = ()  # the rows of `rehearsed`
    rate: float = 0.0  # layers x tokens per second, before any step has been measured; 0 is not known


def parts_of(settings: ServiceSettings, source: Callable[[str], Path]) -> Parts:
    """Load the backbone and open the tiers; raises `BadRequest` for another dtype or graphs without a GPU, and `Conflict` for a GPU not here."""
    if settings.dtype not in DTYPES:
        raise BadRequest(f"dtype {settings.dtype!r} is none of {', '.join(DTYPES)}")
    if settings.on_gpu and not torch.cuda.is_available():
        raise no_gpu(settings.device, "torch finds no GPU in an engine")
    if settings.cuda_graphs and not settings.on_gpu:
        raise BadRequest(
            f"--cuda-graphs: there are none on {settings.device}: serve with --device cuda, or without them"
        )
    dtype = DTYPES[settings.dtype]
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // settings.engines))
    if settings.cuda_graphs:
        adopt("adapters.batch.replays")  # why passes run without them
    backbone = Backbone.load(settings.backbone, settings.device, dtype, graphs=settings.cuda_graphs)
    geometry = backbone.profile.geometry
    preprocessing = read_preprocessing(settings.backbone, geometry) if geometry.image else None
    forward = BackboneForward(backbone, preprocessing)
    _tell_kernels(backbone)
    device = DeviceTier(settings.cache.device_bytes, dtype, settings.device)
    folder: Claim = claim(settings.data / "cache")
    return Parts(
        forward=forward,
        loader=Loader(backbone.profile, dtype, backbone.base_maps),
        disk=DiskTier(folder.folder, settings.cache.disk_bytes),
        host=HostTier(settings.cache.host_bytes),
        device=device,
        source=source,
        layers=geometry.layers,
        budget=_budget(settings.batch, device.budget, forward),
        max_queued=_most_queued(settings.batch.max_queued, geometry),
        release=folder.release,
        step_s=settings.batch.step_s,
        rehearsal=rows_of(geometry),
    )


def _budget(batch: BatchSettings, device_bytes: int, forward: Forward) -> Budget:
    """Where one batch is begun while another computes, both share the room of one."""
    at_once = 2 if forward.overlaps else 1
    return Budget(batch.max_rows, batch.max_tokens, int(device_bytes * BATCH_SHARE / at_once))


def _most_queued(rows: int, geometry: Geometry) -> int:
    """A row of text weighs nothing; images do."""
    return min(rows, max(1, MOST_PIXELS // math.prod(geometry.image))) if geometry.image else rows


def _tell_kernels(backbone: Backbone) -> None:
    """Say at the start what computes: without kernels everything is right, and slow."""
    found = kernels_of(backbone.device)
    if found.kernels is not None and backbone.dtype in found.kernels.dtypes:
        log("engine", "compiled kernels compute", kernels=found.said)
    else:
        log("engine", "torch computes without compiled kernels", level=logging.WARNING, reason=found.said)


def rehearsed(parts: Parts, clock: Callable[[], float] = time.perf_counter) -> Parts:
    """The parts with the rate of their rehearsal, which is computed here: on a thread as urgent as those that answer."""
    return replace(parts, rate=parts.layers * tokens_per_s(parts.forward, parts.rehearsal, clock))
