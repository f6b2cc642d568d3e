import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import tarfile
import zipfile

import numpy as np
import pytest

from adapters.formats import native
from loadtests.proofs import hostile_files
from loadtests.proofs.hostile_files import HOLDS, RUNS
from loadtests.proofs.sound_package import opened
from loadtests.synthetic import make_package

MANY = range(80)


@pytest.fixture(scope="module")
def sound(profile):
    return opened(native.write(make_package(profile, "lora", "sound", 0)))


def made(attack, sound):
    return [attack(random.Random(seed), sound) for seed in MANY]


def header_of(package):
    return package[8 : 8 + int.from_bytes(package[:8], "little")]


@pytest.mark.parametrize("protocol", range(6))
def test_the_pickles_would_really_run_code(protocol):
    with pytest.raises(SystemExit) as left:
        pickle.loads(hostile_files.pickle(RUNS, protocol))
    assert left.value.code == 66
    assert pickle.loads(hostile_files.pickle(HOLDS, protocol)) == {"weights": [1.0]}


def test_a_pickle_comes_alone_before_a_package_and_instead_of_its_header(sound):
    whole, seen = sound.written(), set()
    for body in made(hostile_files.pickled, sound):
        seen.add("before" if body.endswith(whole) else "inside" if body.endswith(sound.data) else "alone")
        assert any(opcodes in body for opcodes in (RUNS, HOLDS))
    assert seen == {"alone", "before", "inside"}


def test_one_name_stands_in_the_header_twice(sound):
    for body in made(hostile_files.twice, sound):
        names = json.loads(header_of(body), object_pairs_hook=lambda pairs: [name for name, _ in pairs])
        assert len(names) == len(set(names)) + 1
        assert body.endswith(sound.data)


def test_a_giant_header_is_large_deep_or_says_that_it_is(sound):
    said = [(int.from_bytes(body[:8], "little"), len(body)) for body in made(hostile_files.giant, sound)]
    lies = {length for length, real in said if length > real}
    true = [length for length, real in said if length <= real]
    assert len(lies) == 5
    assert min(true) >= 200_000


def test_weights_that_are_no_numbers_are_the_only_change(sound):
    right = np.frombuffer(sound.data, "<f4")
    for body in made(hostile_files.not_finite, sound):
        values = np.frombuffer(opened(body).data, "<f4")
        wrong = ~np.isfinite(values)
        assert wrong.any()
        assert (values[~wrong] == right[~wrong]).all()
        assert opened(body).header == sound.header


def kind_of(body, whole):
    """What an archive really is: it is opened as such."""
    openers = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}
    if zipfile.is_zipfile(io.BytesIO(body)):
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            (item,) = archive.infolist()
            return "zip" if archive.read(item) == whole else f"bomb of {item.file_size // len(body)} times"
    try:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            return "tar" if archive.extractfile(archive.getmembers()[0]).read() == whole else "?"
    except tarfile.TarError:
        return next((name for name, opened_by in openers.items() if _opens(opened_by, body) == whole), "?")


def _opens(opened_by, body):
    try:
        return opened_by(body)
    except (OSError, EOFError, lzma.LZMAError):
        return None


def test_archives_are_archives_of_the_package_or_bombs(sound):
    kinds = {kind_of(body, sound.written()) for body in made(hostile_files.archive, sound)}
    bombs = {kind for kind in kinds if kind.startswith("bomb")}
    assert kinds - bombs == {"zip", "tar", "gz", "bz2", "xz"}
    assert bombs
    assert all(int(kind.split()[2]) > 500 for kind in bombs)


def test_what_is_cut_short_is_the_beginning_of_the_package(sound):
    whole = sound.written()
    bodies = made(hostile_files.cut, sound)
    assert all(whole.startswith(body) and len(body) < len(whole) for body in bodies)
    assert len(set(map(len, bodies))) > len(MANY) // 2


def is_object(text):
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def test_either_the_header_or_the_manifest_is_no_json(sound):
    broken = {"header": 0, "manifest": 0}
    for body in made(hostile_files.not_json, sound):
        try:
            text = json.loads(header_of(body))["__metadata__"]["manifest"]
        except ValueError:
            broken["header"] += 1
            continue
        assert not is_object(text)
        broken["manifest"] += 1
    assert all(broken.values())


def test_next_to_nothing_is_never_a_header_with_tensors(sound):
    bodies = made(hostile_files.nothing, sound)
    assert b"" in bodies
    assert max(map(len, bodies)) > 4096
    assert all(sound.written() != body for body in bodies)


def test_something_else_comes_before_or_after_a_whole_package(sound):
    whole = sound.written()
    bodies = made(hostile_files.polyglot, sound)
    places = {(body.startswith(whole), body.endswith(whole)) for body in bodies}
    assert places == {(True, False), (False, True)}
    assert any(zipfile.is_zipfile(io.BytesIO(body)) for body in bodies)
