"""The process that decodes: what it says, what it may not do, and that it holds neither torch nor numpy."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from serving.images import worker
from serving.images.decoding import decoded
from serving.images.frame import Frame
from tests.serving.images.samples import drawn, saved

ROOT = Path(__file__).resolve().parents[3]
FRAME = Frame(8, 12, 2)
PROBE = """
import sys, runpy
from serving.images import worker
serve = worker.serve
def probed(source, sink, frame, most):
    for name in ("/proc/self/status", "made"):
        try:
            open(name, "r" if name[0] == "/" else "w")
        except OSError as error:
            print(name, error.errno, file=sys.stderr)
    try:
        bytearray(1 << 30)
    except MemoryError:
        print("no memory", file=sys.stderr)
    print(sorted({"torch", "numpy", "ray"} & set(sys.modules)), file=sys.stderr)
    serve(source, sink, frame, most)
worker.serve = probed
worker.main()
"""


def asked(*images: bytes) -> bytes:
    return b"".join(len(data).to_bytes(4, "little") + data for data in images)


def test_images_are_answered_in_turn_and_refusals_with_their_words():
    good, other = saved(drawn(30, 20)), saved(drawn(9, 9, seed=1), "JPEG")
    sink = BytesIO()
    worker.serve(BytesIO(asked(good, b"nothing", other) + b"\1\2"), sink, FRAME, 1000)
    told, size = sink.getvalue(), 8 * 12 * 3
    assert told[: 1 + size] == b"\0" + decoded(good, FRAME, 1000)
    rest = told[1 + size :]
    assert rest[:1] == b"\1"
    length = int.from_bytes(rest[1:5], "little")
    assert json.loads(rest[5 : 5 + length])["code"] == "unreadable_image"
    assert rest[5 + length :] == b"\0" + decoded(other, FRAME, 1000)


def test_the_process_opens_nothing_takes_little_memory_and_still_decodes_every_format(tmp_path):
    images = [saved(drawn(30, 20), name) for name in ("PNG", "JPEG", "WEBP")]
    hello = {"frame": vars(FRAME), "max_pixels": 1000, "memory_bytes": 64 << 20}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps(hello).encode() + b"\n" + asked(*images),
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"\0" + b"".join(b"\0" + decoded(data, FRAME, 1000) for data in images)
    assert done.stderr.decode().splitlines() == ["/proc/self/status 24", "made 24", "no memory", "[]"]
    assert not (ROOT / "made").exists()
