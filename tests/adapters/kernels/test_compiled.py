import ctypes
import os
import stat

import pytest
import torch

from adapters.kernels import compiled
from adapters.kernels.compiled import LEVELS, NATIVE, Level, cpu_flags, folders, levels_of, load, load_level

BEST = levels_of(cpu_flags())[0]


def compiler(folder, script):
    """A program that stands where a compiler should."""
    path = folder / "c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path),)


def kept(folder):
    """A compiler that hands out what was compiled before, and counts how often it was asked."""
    made = load().path
    return compiler(folder, f'echo x >>{folder}/calls\nwhile [ "$1" != -o ]; do shift; done; cp {made} "$2"')


def test_what_was_compiled_is_kept_and_found_again(tmp_path):
    place, calls = tmp_path / "deep" / "place", tmp_path / "calls"
    first = load((place,), kept(tmp_path))
    assert first.kernels is not None, first.reason
    assert first.path.parent == place
    assert load((place,), ()).path == first.path, "no compiler is asked for"
    assert calls.read_text() == "x\n"
    assert sorted(path.name for path in place.iterdir()) == [first.path.name], "and nothing else is left"


def test_a_folder_that_takes_nothing_is_passed_over_and_told(tmp_path):
    shut = tmp_path / "file"
    shut.write_text("")
    found = load((shut / "inside", tmp_path / "open"), kept(tmp_path))
    assert found.path.parent == tmp_path / "open"
    refused = load((shut / "inside",), kept(tmp_path))
    assert refused.kernels is None
    assert "no folder takes the compiled kernels" in refused.reason
    assert str(shut) in refused.reason


def test_without_a_compiler_there_are_none_and_the_reason_names_the_remedy(tmp_path):
    found = load((tmp_path,), ("no-such-compiler",))
    assert found.kernels is None
    assert "install no-such-compiler" in found.reason
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "said"), [("echo no such header >&2; exit 3", "no such header"), ("sleep 9", "more than")]
)
def test_a_compiler_that_fails_or_hangs_is_told(tmp_path, monkeypatch, script, said):
    monkeypatch.setattr(compiled, "SECONDS", 0.2)
    found = load((tmp_path / "place",), compiler(tmp_path, script))
    assert found.kernels is None
    assert said in found.reason
    assert not list((tmp_path / "place").iterdir())


def test_a_compiler_that_does_not_know_the_best_level_makes_the_next(tmp_path, monkeypatch):
    newer = Level("newer", ("-mnewer", *BEST.flags), BEST.needs)
    made = load().path
    monkeypatch.setattr(compiled, "levels_of", lambda flags: (newer, BEST))
    refuse = 'for word; do [ "$word" = -mnewer ] && { echo "what is -mnewer" >&2; exit 1; }; done'
    hand_out = f'while [ "$1" != -o ]; do shift; done; cp {made} "$2"'
    found = load((tmp_path / "place",), compiler(tmp_path, f"{refuse}\n{hand_out}"))
    assert found.path.name.startswith(f"kernels-{BEST.name}-")
    assert found.kernels is not None
    assert "what is -mnewer" in found.reason


def test_a_library_that_does_not_load_is_told(tmp_path):
    found = load((tmp_path / "place",), compiler(tmp_path, 'while [ "$1" != -o ]; do shift; done; echo x >"$2"'))
    assert found.kernels is None
    assert found.reason


@pytest.mark.parametrize(("broken", "left"), [(torch.float32, None), (torch.bfloat16, {torch.float32})])
def test_a_library_that_computes_something_else_is_not_used_for_it(monkeypatch, broken, left):
    monkeypatch.setattr(compiled, "wrong_storage", lambda kernels, dtype: "is off by 1" if dtype is broken else None)
    found = load()
    assert "is off by 1" in found.reason
    assert (None if found.kernels is None else found.kernels.dtypes) == left


def test_a_cpu_gets_the_best_level_whose_instructions_it_has():
    known = LEVELS["x86_64"]
    for place, level in enumerate(known):
        assert levels_of(frozenset(level.needs)) == tuple(one for one in known[place:] if one.needs <= level.needs)
    assert levels_of(frozenset()) == ()


def test_a_cpu_below_every_level_gets_none(monkeypatch):
    monkeypatch.setattr(compiled, "cpu_flags", frozenset)
    found = load()
    assert found.kernels is None
    assert all(level.name in found.reason for level in LEVELS["x86_64"])


def test_another_architecture_compiles_for_itself(monkeypatch):
    monkeypatch.setattr(compiled.platform, "machine", lambda: "riscv64")
    assert levels_of(frozenset()) == (NATIVE,)


def test_a_library_s_name_changes_with_all_that_it_depends_on(tmp_path, monkeypatch):
    same = kept(tmp_path)  # now: with other flags it would be compiled anew

    def name():
        return load_level(BEST, (tmp_path,), same).path.name

    names = [name()]
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    names.append(name())
    monkeypatch.setattr(compiled, "FLAGS", (*compiled.FLAGS, "-g"))
    names.append(name())
    assert len(set(names)) == 3
    other = Level("other", (*BEST.flags, "-g"), BEST.needs)
    assert load_level(other, (tmp_path,), same).path.name.startswith("kernels-other-")


def test_somebody_without_a_home_keeps_them_beside_the_sources(monkeypatch):
    assert len(folders()) == 2
    monkeypatch.setattr(compiled.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert folders() == (compiled.SOURCES / "build",)


def test_the_command_compiles_and_says_where(tmp_path, capsys, monkeypatch):
    assert compiled.main(["--here"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert str(load().path) in told.err
    monkeypatch.setattr(compiled, "load", lambda places: compiled.Loaded(None, "no C++ compiler was found"))
    assert compiled.main([str(tmp_path)]) == 1
    assert "no C++ compiler" in capsys.readouterr().err


def test_the_library_asks_for_nothing_but_torch_and_the_usual():
    library = ctypes.CDLL(str(load().path))
    assert not hasattr(library, "no_such_kernel")
    assert os.access(load().path, os.R_OK)
