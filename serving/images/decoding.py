"""One image of a stranger to pixels: its header is judged before anything of it is decoded.

PNG, JPEG and WebP, of one frame and at most eight bits a channel. As transformers' `load_image` does, the picture is
turned as its EXIF orientation says and made RGB (transparency is dropped); of all other metadata nothing is heeded. Of a
JPEG that holds several pictures (a phone's photo with its preview) the first one counts.

Only `worker` calls it: the decoders are C code with a history, and this runs in no process that holds anything.
"""

import warnings
from io import BytesIO

from PIL import (
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from serving.errors import ServiceError, TooLarge, Unprocessable
from serving.images.frame import Frame

FORMATS = ("PNG", "JPEG", "WEBP")
SAID = "PNG, JPEG and WebP"
UNREADABLE = "unreadable_image"
# Of more bits a channel Pillow keeps the wrong ones, so the modes "I" and "F" are none of these.
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)  # Pillow looks for no others

Image.MAX_IMAGE_PIXELS = None  # its bound warns first and refuses twice as much; the one below is ours
warnings.simplefilter("ignore")  # nobody reads what Pillow says of a damaged EXIF


def decoded(data: bytes, frame: Frame, max_pixels: int) -> bytes:
    """The pixels [height, width, 3] of the frame, a byte each.

    Raises `TooLarge` for more than `max_pixels`, and `Unprocessable` for what is no image, is animated or truncated, or
    does not have the frame's size where nothing is resized.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _judge(image, max_pixels)
            image.load()
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except ServiceError:
        raise
    except UnidentifiedImageError as error:
        detail = f"this is no image: {SAID} are read"
        raise Unprocessable(detail, code=UNREADABLE) from error
    except MemoryError as error:
        raise TooLarge("the image takes more memory than one may: send it smaller", code="image_too_large") from error
    except Exception as error:  # whatever a decoder makes of damaged bytes
        detail = f"the image is damaged or cut off ({type(error).__name__}): save it again"
        raise Unprocessable(detail, code=UNREADABLE) from error
    size = (frame.width, frame.height)
    if frame.resample is None:
        if upright.size != size:
            found, wanted = (f"{width} x {height}" for width, height in (upright.size, size))
            detail = f"the image is {found} pixels; this backbone resizes none: send {wanted}"
            raise Unprocessable(detail, code="wrong_image_size")
        return upright.tobytes()
    return upright.resize(size, Image.Resampling(frame.resample)).tobytes()


def _judge(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        detail = f"the image is {width} x {height} pixels; at most {max_pixels} in all: send it smaller"
        raise TooLarge(detail, code="image_too_large")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Unprocessable("the image is animated: send one frame of it", code="animated_image")
    if image.mode not in _MODES:
        detail = f"the image has more than 8 bits a channel ({image.mode}): save it with 8"
        raise Unprocessable(detail, code=UNREADABLE)
