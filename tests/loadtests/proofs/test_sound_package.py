import json
import random

import pytest

from adapters.formats import native
from loadtests.proofs.sound_package import drawn, framed, opened
from loadtests.synthetic import CONFIGS, make_package
from serving.registry.check_worker import examine


@pytest.fixture(scope="module", params=CONFIGS)
def package(request, profile):
    return native.write(make_package(profile, request.param, "sound", 0))


def test_taken_apart_and_put_together_again_a_package_is_still_sound(package, profile, tmp_path):
    path = tmp_path / "package"
    path.write_bytes(opened(package).written())
    assert examine(path, profile)["nbytes"] == path.stat().st_size
    again, first = native.read(path.read_bytes()), native.read(package)
    assert again.manifest == first.manifest
    assert all((again.tensors[name] == tensor).all() for name, tensor in first.tensors.items())


def test_only_the_part_that_is_replaced_becomes_another(package):
    sound = opened(package)
    parts = {"header": {"x": {}}, "manifest": {"kind": "none"}, "data": b"bytes"}
    for name, value in parts.items():
        changed = opened(sound.written(**{name: value}))
        whole = {part: getattr(changed, part) for part in parts}
        assert whole == {part: value if part == name else getattr(sound, part) for part in parts}


def test_a_manifest_that_is_a_text_stays_as_it_is_written(package):
    written = opened(package).written(manifest="{no json")
    header = json.loads(written[8 : 8 + int.from_bytes(written[:8], "little")])
    assert header["__metadata__"]["manifest"] == "{no json"


def test_a_frame_may_lie_about_its_length():
    assert framed(b"{}", b"data", 9) == b"\x09" + bytes(7) + b"{}data"
    assert framed(b"{}", b"data") == b"\x02" + bytes(7) + b"{}data"


def test_a_header_to_break_is_a_copy(package):
    sound = opened(package)
    before = json.dumps(sound.header)
    header, name = drawn(random.Random(1), sound)
    header[name]["shape"].append(7)
    assert json.dumps(sound.header) == before
    names = {drawn(random.Random(seed), sound)[1] for seed in range(200)}
    assert len(names) > 1
    assert names <= sound.header.keys()
