"""Log files that start anew, and what several processes write into one of them."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from serving.rotation import RotatingFile

FULL = "aaaaaaaaaaaaaaaaaaa\n"
WRITER = """
import sys
from pathlib import Path
from serving.rotation import RotatingFile
path, name, lines, size, keep = sys.argv[1:]
file = RotatingFile(Path(path), int(size), int(keep))
for i in range(int(lines)):
    file.write(f"{name} {i} {'x' * (i % 50)}\\n")
"""


@pytest.fixture
def make(tmp_path):
    made = []

    def make(max_bytes=100, keep=2):
        made.append(RotatingFile(tmp_path / "engine.log", max_bytes, keep))
        return made[-1]

    yield make
    for file in made:
        file.close()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_starts_anew_before_it_would_be_too_large(make, tmp_path):
    file = make(max_bytes=20, keep=2)
    for word in ("aaaaaaaaa\n", "bbbbbbbbb\n", "ccccccccc\n"):
        assert file.write(word) == 10
    assert (tmp_path / "engine.log").read_text() == "ccccccccc\n"
    assert (tmp_path / "engine.log.1").read_text() == "aaaaaaaaa\nbbbbbbbbb\n"


def test_so_many_full_files_are_kept_and_the_oldest_goes_first(make, tmp_path):
    file = make(max_bytes=4, keep=2)
    for word in "abcde":
        file.write(f"{word * 3}\n")
    assert names(tmp_path) == ["engine.log", "engine.log.1", "engine.log.2"]
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == ["eee\n", "ddd\n", "ccc\n"]


def test_a_line_that_is_larger_than_a_file_is_written_whole(make, tmp_path):
    file = make(max_bytes=4)
    file.write("short\n")
    file.write("x" * 100 + "\n")
    assert (tmp_path / "engine.log").read_text() == "x" * 100 + "\n"


def test_what_was_there_before_is_kept(make, tmp_path):
    (tmp_path / "engine.log").write_text("earlier\n")
    make().write("now\n")
    assert (tmp_path / "engine.log").read_text() == "earlier\nnow\n"


def test_a_file_that_somebody_removed_is_made_again(make, tmp_path):
    file = make()
    file.write("one\n")
    (tmp_path / "engine.log").unlink()
    file.write("two\n")
    assert (tmp_path / "engine.log").read_text() == "two\n"


def test_a_second_writer_follows_the_renaming_of_the_first(make, tmp_path):
    one, other = make(max_bytes=10), make(max_bytes=10)
    for file, word in ((one, "aaaaaaaa\n"), (other, "bbbbbbbb\n"), (one, "cccccccc\n"), (other, "dddddddd\n")):
        file.write(word)
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == ["dddddddd\n", "cccccccc\n", "bbbbbbbb\n"]


@pytest.mark.parametrize(
    ("word", "files"),
    [("other\n", ["other\none\n", FULL]), ("other of 18 bytes\n", ["one\n", "other of 18 bytes\n", FULL])],
)
def test_two_that_find_the_file_full_rename_it_once_each_at_most(make, tmp_path, monkeypatch, word, files):
    one, other, lock = make(max_bytes=20), make(max_bytes=20), fcntl.flock

    def later(descriptor, operation):  # the other one gets the lock first
        monkeypatch.setattr(fcntl, "flock", lock)
        other.write(word)
        lock(descriptor, operation)

    one.write(FULL)
    monkeypatch.setattr(fcntl, "flock", later)
    one.write("one\n")
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == files


def test_a_line_that_the_disk_takes_in_parts_is_written_whole(make, tmp_path, monkeypatch):
    file, write = make(), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    file.write("a whole line\n")
    assert (tmp_path / "engine.log").read_text() == "a whole line\n"


def test_a_full_disk_is_told_and_the_next_line_is_tried_again(make, tmp_path, monkeypatch):
    file, write = make(), os.write

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        file.write("lost\n")
    monkeypatch.setattr(os, "write", write)
    file.write("kept\n")
    assert (tmp_path / "engine.log").read_text() == "kept\n"


def test_other_users_cannot_read_it(make, tmp_path):
    make().write("x\n")
    assert (tmp_path / "engine.log").stat().st_mode & 0o007 == 0


def test_text_that_utf8_lacks_is_written_escaped(make, tmp_path):
    make().write("\ud800\n")
    assert (tmp_path / "engine.log").read_bytes() == b"\\ud800\n"


def test_closing_twice_is_closing_once(make):
    file = make()
    file.close()
    file.close()
    assert file.closed


@pytest.mark.parametrize(("max_bytes", "keep"), [(0, 1), (1, 0)])
def test_a_file_without_room_is_refused(make, max_bytes, keep):
    with pytest.raises(ValueError, match="both are at least 1"):
        make(max_bytes, keep)


def test_four_processes_on_one_file_lose_no_line_and_break_none(tmp_path):
    lines, path = 400, tmp_path / "engine.log"
    command = [sys.executable, "-c", WRITER, path]
    writers = [subprocess.Popen([*command, name, str(lines), "2000", "200"]) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    held = [line for name in names(tmp_path) for line in (tmp_path / name).read_text().splitlines()]
    wanted = {f"{name} {i} {'x' * (i % 50)}" for name in "abcd" for i in range(lines)}
    assert len(held) == len(wanted)
    assert set(held) == wanted
    assert len(names(tmp_path)) > 10
