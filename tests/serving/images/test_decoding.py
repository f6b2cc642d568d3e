"""What images become, as transformers' `load_image` makes it; and what is refused before, while and after decoding."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image

from serving.errors import TooLarge, Unprocessable
from serving.images.decoding import decoded
from serving.images.frame import Frame
from tests.serving.images.samples import drawn, saved

FRAME = Frame(8, 12, 2)
MOST = 10_000


def refusal(data: bytes, frame: Frame = FRAME, most: int = MOST):
    with pytest.raises((TooLarge, Unprocessable)) as caught:
        decoded(data, frame, most)
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *rest: bytes) -> bytes:
    """A PNG by hand: its header may promise what does not follow."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(rest)


@pytest.mark.parametrize(
    "data",
    [
        saved(drawn(31, 17)),
        saved(drawn(31, 17), "JPEG"),
        saved(drawn(31, 17), "WEBP"),
        *(saved(drawn(31, 17, mode)) for mode in ("1", "L", "LA", "P", "RGBA")),
        saved(drawn(31, 17, "CMYK"), "JPEG"),
    ],
)
@pytest.mark.parametrize("turn", [None, 3, 6, 8])
def test_every_format_and_mode_becomes_what_transformers_loads(data, turn):
    image = Image.open(BytesIO(data))
    if turn is not None:
        exif = Image.Exif()
        exif[0x0112] = turn
        data = saved(image, image.format, exif=exif)
    theirs = load_image(Image.open(BytesIO(data))).resize((12, 8), Image.Resampling.BILINEAR)
    assert decoded(data, FRAME, MOST) == theirs.tobytes()
    assert len(theirs.tobytes()) == 8 * 12 * 3


def test_a_phones_photo_counts_by_its_first_picture():
    first, second = drawn(20, 20), drawn(20, 20, seed=1)
    made = BytesIO()
    first.save(made, "MPO", save_all=True, append_images=[second])
    assert decoded(made.getvalue(), FRAME, MOST) == decoded(saved(first, "JPEG"), FRAME, MOST)


def test_more_pixels_than_one_may_have_are_refused_by_the_header():
    refused = refusal(png(60_000, 60_000, chunk(b"IDAT", zlib.compress(bytes(1000)))))
    assert (refused.status, refused.code) == (413, "image_too_large")
    assert "60000 x 60000" in refused.detail
    assert decoded(saved(drawn(100, 100)), FRAME, 10_000)
    assert refusal(saved(drawn(101, 100))).code == "image_too_large"


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_an_animated_image_is_refused(name):
    frames = [drawn(seed=seed) for seed in range(3)]
    refused = refusal(saved(frames[0], name, save_all=True, append_images=frames[1:]))
    assert (refused.status, refused.code) == (422, "animated_image")


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_an_image_that_is_cut_off_is_refused(name):
    data = saved(drawn(64, 64), name)
    refused = refusal(data[: len(data) // 2])
    assert (refused.status, refused.code) == (422, "unreadable_image")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.7 and so on",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        saved(drawn(), "GIF"),
        saved(drawn(), "TIFF"),
        saved(drawn(), "BMP"),
    ],
)
def test_other_formats_are_refused_also_those_that_pillow_knows(data):
    refused = refusal(data)
    assert (refused.code, refused.detail) == ("unreadable_image", "this is no image: PNG, JPEG and WebP are read")


def test_sixteen_bits_of_grey_are_refused_for_pillow_would_cut_them():
    deep = Image.fromarray(np.full((8, 12), 40_000, np.uint16))
    assert "more than 8 bits a channel" in refusal(saved(deep)).detail


def test_metadata_that_unpacks_to_far_more_is_refused():
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20)))
    assert refusal(png(12, 8, bomb, chunk(b"IDAT", zlib.compress(bytes(8 * 37))))).code == "unreadable_image"


def test_where_nothing_is_resized_only_the_frames_own_size_will_do():
    frame = Frame(8, 12, None)
    image = drawn()
    assert decoded(saved(image), frame, MOST) == image.tobytes()
    refused = refusal(saved(drawn(8, 12)), frame)
    assert (refused.code, refused.detail) == (
        "wrong_image_size",
        "the image is 8 x 12 pixels; this backbone resizes none: send 12 x 8",
    )
