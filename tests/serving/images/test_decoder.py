"""The supervisor: images in many at once, decoders that die or hang, and whom that is held against."""

import asyncio
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from serving.config import Limits
from serving.errors import NotReady, TooLarge, Unprocessable
from serving.images.decoder import DECODERS, Decoder
from serving.images.decoding import decoded
from serving.images.frame import Frame
from tests.serving.images.samples import drawn, saved

FRAME = Frame(8, 12, 2)
# Greets, and then does to the image what the image says.
BAD = """
import os, sys, time
source, sink = sys.stdin.buffer, sys.stdout.buffer
source.readline()
sink.write(b"\\0"); sink.flush()
while head := source.read(4):
    data = source.read(int.from_bytes(head, "little"))
    if data == b"die":
        os.abort()
    if data == b"hang":
        time.sleep(60)
    sink.write(b"\\0" + bytes([len(data)]) * 288 if data != b"babble" else b"\\1\\2\\0\\0\\0{}"); sink.flush()
"""


def bad(**options) -> Decoder:
    return Decoder(FRAME, 1000, command=(sys.executable, "-c", BAD), **options)


def test_images_at_once_are_decoded_each_as_itself():
    async def all_of_them():
        decoder = Decoder(FRAME, 1000)
        await decoder.start()
        images = [saved(drawn(20 + i, 9, seed=i)) for i in range(12)]
        found = await asyncio.gather(*map(decoder.decode, images))
        decoder.check()
        with pytest.raises(TooLarge, match="at most 1000 in all"):
            await decoder.decode(saved(drawn(40, 40)))
        with pytest.raises(Unprocessable, match="this is no image"):
            await decoder.decode(b"no")
        await decoder.stop()
        return images, found

    for data, pixels in zip(*asyncio.run(all_of_them()), strict=True):
        expected = np.frombuffer(decoded(data, FRAME, 1000), np.uint8).reshape(8, 12, 3)
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("image", "reason"), [(b"die", "died of this image"), (b"hang", "longer than 0.5 s"), (b"babble", "died of this")]
)
def test_a_decoder_that_fails_refuses_the_image_that_did_it_and_no_other(image, reason):
    async def one_after_the_other():
        decoder = bad(deadline_s=0.5)
        await decoder.start()
        for _ in range(2):
            with pytest.raises(Unprocessable, match=reason):
                await decoder.decode(image)
            decoder.check()
            assert (await decoder.decode(b"fine")).max() == 4
        await decoder.stop()
        decoder.check()

    asyncio.run(one_after_the_other())


def test_a_decoder_that_ended_before_accuses_nobody():
    async def after_a_kill():
        decoder = bad()
        await decoder.start()
        (process,) = decoder._idle
        os.kill(process.pid, signal.SIGKILL)
        assert (await decoder.decode(b"fine")).max() == 4
        decoder.check()
        await decoder.stop()

    asyncio.run(after_a_kill())


def test_who_hangs_up_leaves_no_answer_to_the_next():
    async def hung_up():
        decoder = bad()
        waiting = [asyncio.ensure_future(decoder.decode(b"hang")) for _ in range(DECODERS + 1)]
        await asyncio.sleep(0.3)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        decoder.check()
        assert (await decoder.decode(b"twelve bytes")).max() == 12
        last = asyncio.ensure_future(decoder.decode(b"hang"))
        await asyncio.sleep(0.2)
        await decoder.stop()
        with pytest.raises(NotReady):
            await last
        decoder.check()

    asyncio.run(hung_up())


def test_where_none_starts_the_service_says_so():
    async def never():
        with pytest.raises(NotReady, match="no decoder of images starts"):
            await Decoder(FRAME, 1000, command=(sys.executable, "-c", "")).start()

    asyncio.run(never())


def test_the_memory_of_a_decoder_is_enough_for_the_largest_image_that_may_come():
    async def largest():
        most = Limits().max_image_pixels
        image = drawn().resize((8192, most // 8192), Image.Resampling.NEAREST).convert("RGBA")
        turned = Image.Exif()
        turned[0x0112] = 6
        data = saved(image, "WEBP", method=0, quality=1, exif=turned)
        decoder = Decoder(FRAME, most)
        assert (await decoder.decode(data)).shape == (8, 12, 3)
        await decoder.stop()

    asyncio.run(largest())
