"""The package of which numbered copies are published beside the load: as large as the scenario says, with a known answer."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

from adapters.architectures.profile import BackboneProfile
from adapters.formats import native
from loadtests.client.plan import Known, Publishes
from loadtests.scenarios.values import Publishing
from loadtests.served.population import COMMON, LABELS, Made
from loadtests.served.target import Target
from loadtests.synthetic import bottleneck, make_package

STEP = 4.0  # tolerances that the answers of two copies keep apart
TIMEOUT_MS = 30_000


def make_hot(profile: BackboneProfile, publishing: Publishing, seed: int, folder: Path) -> Made:
    """A bottleneck adapter of so many megabytes, written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    geometry, name = profile.geometry, f"hot-{seed}"
    width = max(1, round(publishing.megabytes * 1e6 / (4 * geometry.layers * 2 * geometry.hidden_size)))
    labels = tuple(f"{name}.{label}" for label in range(LABELS))
    package = make_package(profile, "bottleneck", name, seed, labels=labels, config=bottleneck(geometry, width))
    data = native.write(package)
    path = folder / f"{name}.safetensors"
    path.write_bytes(data)
    return Made(0, name, "bottleneck", native.digest(data), labels, path, (COMMON,))


def publishes(
    known: Known, made: Made, target: Target, text: str, at: Sequence[float], written: Path, *, ask: bool
) -> Publishes:
    """What the publishing process is told; `known` answers the text, and `at` are seconds after the start."""
    offsets, data = bias_offsets(made.path), made.path.read_bytes()
    one, two = (struct.unpack_from("<f", data, offset)[0] for offset in offsets)
    return Publishes(
        place=target.place,
        tenant=target.tenants[made.tenant],
        name=made.name,
        package=str(made.path),
        offsets=offsets,
        biases=(one, two),
        step=STEP * target.tolerance,
        known=known,
        text=text,
        at=tuple(at),
        ask=ask,
        timeout_ms=TIMEOUT_MS,
        tolerance=target.tolerance,
        written=str(written),
    )


def bias_offsets(path: Path) -> tuple[int, int]:
    """Where in a package the first two biases of its head's last layer lie (float32, little-endian)."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    last = max(name for name in header if name.startswith("head/") and name.endswith("/bias"))
    start = 8 + length + int(header[last]["data_offsets"][0])
    return start, start + 4
