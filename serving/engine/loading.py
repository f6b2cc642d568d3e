"""From a verified file to what a pass needs: read, fit, fold. Runs on the cache's loader thread, never on the batch's."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from adapters.architectures.profile import BackboneProfile
from adapters.cache.host import Entry
from adapters.embeddings import token_embedding
from adapters.errors import Misfit
from adapters.formats import native
from adapters.methods.base import BaseMaps
from adapters.methods.fold import expected, fold
from adapters.refs import AdapterRef
from adapters.weights import ALIGN, Package

SERVED = ("adapter", "fusion", "head", "embedding")
MAX_KNOWN = 100_000  # sizes of packages, resident or not; forgotten ones count as nothing in a batch's budget


class Loader:
    """Reads packages for one backbone, and remembers how many device bytes each takes.

    `base` gives the backbone's own weights, which some methods are folded with.
    """

    def __init__(self, profile: BackboneProfile, dtype: torch.dtype, base: BaseMaps | None = None) -> None:
        self._profile = profile
        self._dtype = dtype
        self._base = base
        self._device_bytes: dict[tuple[str, str], int] = {}
        self._moved: dict[tuple[str, str], int] = {}

    def load(self, ref: AdapterRef, path: Path) -> Entry:
        """A folded `Adapter`, or a `TokenEmbedding`, which stays on the host; raises `InvalidPackage` or `Misfit`."""
        package = native.read(path)
        _fit(package, self._profile)
        if package.manifest.embedding is not None:
            embedding = token_embedding(package, self._dtype)
            self._remember(ref, 0, embedding.nbytes)
            return embedding
        with torch.no_grad():
            adapter = fold(package, self._profile, self._dtype, self._base)
        slot = -(-adapter.flat.numel() // ALIGN) * ALIGN * self._dtype.itemsize
        self._remember(ref, slot, slot)
        return adapter

    def device_bytes(self, refs: Iterable[AdapterRef]) -> Mapping[AdapterRef, int]:
        """Bytes of each reference on the device."""
        return {ref: self._device_bytes.get(ref.key, 0) for ref in refs}

    def moved(self, ref: AdapterRef) -> int:
        """Bytes that bringing in a reference has moved, wherever it is used."""
        return self._moved.get(ref.key, 0)

    def _remember(self, ref: AdapterRef, device: int, moved: int) -> None:
        for known, nbytes in ((self._device_bytes, device), (self._moved, moved)):
            known.pop(ref.key, None)
            known[ref.key] = nbytes
            if len(known) > MAX_KNOWN:
                del known[next(iter(known))]


def _fit(package: Package, profile: BackboneProfile) -> None:
    """Everything was checked at publish; what lies below may have been changed since, so shapes are checked again."""
    if package.manifest.kind not in SERVED:
        raise Misfit([f"a package of kind {package.manifest.kind!r} holds nothing that an engine could load"])
    shapes, tensors = expected(package.manifest, profile), package.tensors
    reasons = [f"{name} is missing" for name in shapes if name not in tensors]
    reasons += [
        f"{name} is {list(tensors[name].shape)} and should be {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if reasons:
        raise Misfit(reasons)
