"""Images in every form, drawn here."""

from io import BytesIO

import numpy as np
from PIL import Image


def drawn(width: int = 12, height: int = 8, mode: str = "RGB", seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def saved(image: Image.Image, name: str = "PNG", **options) -> bytes:
    made = BytesIO()
    image.save(made, name, **options)
    return made.getvalue()
