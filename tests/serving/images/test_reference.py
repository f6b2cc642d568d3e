"""The reference image: in every channel something else, and a file that decodes to itself."""

import numpy as np
import pytest

from serving.images.decoding import decoded
from serving.images.frame import Frame
from serving.images.reference import drawn, png


@pytest.mark.parametrize("size", [(8, 12), (224, 224), (1, 1)])
def test_the_file_is_the_picture(size):
    picture = drawn(*size)
    assert (picture.shape, picture.dtype) == ((*size, 3), np.uint8)
    assert decoded(png(picture), Frame(*size, None), 1 << 20) == picture.tobytes()


def test_no_channel_and_no_corner_is_like_another():
    picture = drawn(24, 24)
    assert len({channel.tobytes() for channel in np.moveaxis(picture, -1, 0)}) == 3
    assert len({tuple(picture[y, x]) for y in (0, -1) for x in (0, -1)}) == 4
    assert picture[12, 12, 2] == 255
