import json
import random

import numpy as np
import pytest

from adapters.formats import native
from loadtests.proofs import hostile_headers
from loadtests.proofs.hostile_headers import FAR, MANY_DIGITS
from loadtests.proofs.sound_package import opened
from loadtests.synthetic import CONFIGS, make_package

MANY = range(120)


@pytest.fixture(scope="module", params=CONFIGS)
def sound(request, profile):
    return opened(native.write(make_package(profile, request.param, "sound", 0)))


def made(attack, sound):
    return [opened(attack(random.Random(seed), sound)) for seed in MANY]


def differing(one, other):
    """Keys whose values are not written alike: `4.0` is another number than `4`."""
    keys = one.keys() | other.keys()
    return {key for key in keys if json.dumps(one.get(key)) != json.dumps(other.get(key))}


@pytest.mark.parametrize(
    ("attack", "field"),
    [
        (hostile_headers.shape, "shape"),
        (hostile_headers.dtype, "dtype"),
        (hostile_headers.offsets, "data_offsets"),
    ],
)
def test_one_field_of_one_tensor_is_wrong_and_all_else_as_it_was(sound, attack, field):
    wrong = set()
    for broken in made(attack, sound):
        (name,) = differing(sound.header, broken.header)
        entry = broken.header[name]
        assert differing(entry, sound.header[name]) == {field}
        assert (broken.manifest, broken.data) == (sound.manifest, sound.data)
        wrong.add(json.dumps(entry[field]))
    assert len(wrong) >= 8


def test_a_package_of_another_size_agrees_with_itself(sound):
    for broken in made(hostile_headers.resized, sound):
        end = 0
        for entry in sorted(broken.header.values(), key=lambda entry: entry["data_offsets"]):
            assert entry["data_offsets"] == [end, end + 4 * int(np.prod(entry["shape"]))]
            end = entry["data_offsets"][1]
        assert end == len(broken.data) > len(sound.data)
        shapes = [{name: entry["shape"] for name, entry in each.header.items()} for each in (sound, broken)]
        assert sum(shapes[0][name] != shapes[1][name] for name in shapes[0]) == 1


def test_one_tensor_has_a_name_that_leads_elsewhere(sound):
    seen = set()
    for broken in made(hostile_headers.far, sound):
        (name,) = broken.header.keys() - sound.header.keys()
        seen.add(name)
        assert len(broken.header) == len(sound.header)
    assert seen == set(FAR)


def test_another_family_is_asked_for_in_one_field(sound):
    fields = set()
    for broken in made(hostile_headers.family, sound):
        fields |= differing(broken.manifest["requires"], sound.manifest["requires"])
    assert fields == {"model_type", "hidden_size", "layers", "heads"}


def test_there_is_one_tensor_too_many_or_too_few_and_no_hole(sound):
    counts = set()
    for broken in made(hostile_headers.tensors, sound):
        counts.add(len(broken.header) - len(sound.header))
        spans = sorted(entry["data_offsets"] for entry in broken.header.values())
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] == len(broken.data)
    assert counts == {-1, 1}


def manifest_text(package):
    header = json.loads(package[8 : 8 + int.from_bytes(package[:8], "little")])
    return header["__metadata__"]["manifest"]


def test_a_number_that_no_model_has_is_written_as_it_is(sound):
    texts = {manifest_text(hostile_headers.numbers(random.Random(seed), sound)) for seed in MANY}
    assert json.dumps(sound.manifest) not in texts
    for word in (MANY_DIGITS, "NaN", "Infinity", "1e999", "true", "[]"):
        assert any(f": {word}" in text for text in texts), word


def test_a_manifest_is_broken_in_many_ways_and_stays_json(sound):
    manifests = {json.dumps(broken.manifest) for broken in made(hostile_headers.manifest, sound)}
    assert json.dumps(sound.manifest) not in manifests
    assert len(manifests) > 30
