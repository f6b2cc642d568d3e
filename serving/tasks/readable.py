"""What a backbone's folder must hold so that gateways can read what they are sent: asked once, at the start."""

from importlib.util import find_spec
from pathlib import Path

from adapters.architectures.geometry import Geometry
from serving.errors import BadRequest, Unprocessable
from serving.images.preprocessing import read_preprocessing


def check_readable(folder: Path, geometry: Geometry) -> None:
    """Raise `Unprocessable` for no tokenizer, or settings of images that are not supported.

    Raises `BadRequest` where images should be read, and the extra is not installed.
    """
    if geometry.image is None:
        if not (folder / "tokenizer.json").is_file():
            raise Unprocessable(f"{folder} holds no tokenizer.json, by which texts are read")
        return
    read_preprocessing(folder, geometry)
    if find_spec("PIL") is None:
        raise BadRequest("a backbone of images needs the extra `vision`: pip install 'chorus[vision]'")
