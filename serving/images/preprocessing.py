"""What a backbone's `preprocessor_config.json` asks for: the size that images are brought to, and the numbers of pixels.

It is what transformers' `ViTImageProcessor` does with Pillow and numpy, bit for bit, cut in two: decoders resize, and
engines turn the bytes into numbers. Between them travels a byte per pixel and channel, a quarter of what numbers take.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.architectures.geometry import Geometry
from serving.errors import Unprocessable
from serving.images.frame import Frame

FILE = "preprocessor_config.json"
Picture = NDArray[np.uint8]  # [height, width, 3]
_CHANNELS = 3
_PROCESSORS = ("ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil", "ViTFeatureExtractor")
_FILTERS = range(6)  # Pillow's numbers: nearest, Lanczos, bilinear, bicubic, box, Hamming
_BILINEAR = 2
_HALF = (0.5, 0.5, 0.5)
_READ = frozenset(
    (
        "image_processor_type",
        "feature_extractor_type",
        "do_resize",
        "size",
        "resample",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "do_center_crop",
        "do_pad",
    )
)
# They say nothing of the numbers: of what is switched off, of layouts of arrays, or, as to RGB, what is done anyway.
_WITHOUT_EFFECT = frozenset(
    (
        "processor_class",
        "do_convert_rgb",
        "data_format",
        "input_data_format",
        "return_tensors",
        "device",
        "disable_grouping",
        "default_to_square",
        "crop_size",
        "pad_size",
        "image_seq_length",
        "backend",
    )
)


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """The frame, and for each channel and byte the number that the backbone sees: `levels` [3, 256], float32."""

    frame: Frame
    levels: NDArray[np.float32]

    def numbers(self, picture: Picture) -> NDArray[np.float32]:
        """[3, height, width] of a picture in the frame."""
        return np.stack([levels[picture[:, :, channel]] for channel, levels in enumerate(self.levels)])


def read_preprocessing(folder: Path, geometry: Geometry) -> Preprocessing:
    """What the backbone in a folder wants; raises `Unprocessable` with every setting that is not supported."""
    try:
        config = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        detail = f"{folder} holds no {FILE} that can be read: save the backbone's image processor there ({error})"
        raise Unprocessable(detail, code="unsupported_backbone") from error
    reasons = _faults(config, geometry) if isinstance(config, dict) else ["it is no object"]
    if reasons:
        raise Unprocessable(f"{folder / FILE}: {'; '.join(reasons)}", code="unsupported_backbone")
    resample = config.get("resample")
    filtered = _BILINEAR if resample is None else resample
    frame = Frame(geometry.image_height, geometry.image_width, filtered if _asked(config, "do_resize") else None)
    return Preprocessing(frame, _levels(config))


def _levels(config: Mapping[str, Any]) -> NDArray[np.float32]:
    """Of every byte what `ViTImageProcessor` makes of it: scaled in double precision, the rest in single."""
    values = np.arange(256, dtype=np.uint8)
    if _asked(config, "do_rescale"):
        scaled = (values.astype(np.float64) * config.get("rescale_factor", 1 / 255)).astype(np.float32)
    else:
        scaled = values.astype(np.float32)
    if not _asked(config, "do_normalize"):
        return np.tile(scaled, (_CHANNELS, 1))
    mean, std = (_per_channel(config, name) for name in ("image_mean", "image_std"))
    return np.asarray((scaled - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None])


def _faults(config: Mapping[str, Any], geometry: Geometry) -> list[str]:
    kind = config.get("image_processor_type") or config.get("feature_extractor_type") or _PROCESSORS[0]
    found = [] if kind in _PROCESSORS else [f"{kind} is not served; {_PROCESSORS[0]} is"]
    found += [f"{name} is not supported" for name in ("do_center_crop", "do_pad") if config.get(name)]
    strange = sorted(name for name in config.keys() - _READ - _WITHOUT_EFFECT if config[name] not in (None, False))
    found += [f"{name} is not known" for name in strange]
    if geometry.channels != _CHANNELS:
        found.append(f"images are RGB, and the backbone takes {geometry.channels} channels")
    if _asked(config, "do_resize"):
        size, wanted = _size(config.get("size", 224)), (geometry.image_height, geometry.image_width)
        if size is None:
            found.append(f"size is {config['size']!r}: give height and width")
        elif size != wanted:
            found.append(f"size is {list(size)}, and the backbone takes [height, width] {list(wanted)}")
        if config.get("resample") is not None and config["resample"] not in _FILTERS:
            found.append(f"resample is {config['resample']!r}: give one of {list(_FILTERS)}, Pillow's filters")
    if _asked(config, "do_rescale") and not _finite(config.get("rescale_factor", 1.0)):
        found.append(f"rescale_factor is {config['rescale_factor']!r}: give a number")
    if _asked(config, "do_normalize"):
        for name in ("image_mean", "image_std"):
            values = _per_channel(config, name)
            if len(values) != _CHANNELS or not all(map(_finite, values)) or (name == "image_std" and 0 in values):
                found.append(f"{name} is {config[name]!r}: give a number per channel, and no zero to divide by")
    return found


def _asked(config: Mapping[str, Any], name: str) -> bool:
    """All three steps are taken where nothing is said of them."""
    value = config.get(name)
    return True if value is None else bool(value)


def _size(value: object) -> tuple[int, int] | None:
    """(height, width); one number is both."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, dict) and value.keys() == {"height", "width"}:
        return value["height"], value["width"]
    return None


def _per_channel(config: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    value = config.get(name)
    if value is None:
        return _HALF
    return tuple(value) if isinstance(value, list) else (value,) * _CHANNELS


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
