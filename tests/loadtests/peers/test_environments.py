import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.peers import environments
from loadtests.peers.contenders import CHORUS, LIBRARIES
from loadtests.peers.environments import PACKAGE, REQUIREMENTS, interpreter, linked, surroundings
from loadtests.peers.process import PeerFailed


@pytest.fixture
def installs(monkeypatch):
    """Commands that would have installed something; `fails` has the next one fail."""
    seen = []
    seen_fails = {"code": 0}

    def create(folder, **options):
        assert options == {"clear": True, "with_pip": True}
        folder.mkdir(parents=True, exist_ok=True)

    def run(command, **options):
        seen.append(command)
        return subprocess.CompletedProcess(command, seen_fails["code"], "", "no such version")

    monkeypatch.setattr(environments.venv, "create", create)
    monkeypatch.setattr(environments.subprocess, "run", run)
    return seen, seen_fails


def test_an_environment_is_installed_once(installs, tmp_path):
    seen, _ = installs
    python = interpreter("peft", tmp_path)
    assert python == tmp_path / "peft" / "bin" / "python"
    assert seen == [[str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS / "peft.txt")]]
    assert interpreter("peft", tmp_path) == python
    assert len(seen) == 1


def test_other_requirements_install_it_again(installs, tmp_path, monkeypatch):
    seen, _ = installs
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "peft.txt").write_text("peft==1\n")
    interpreter("peft", tmp_path / "cache")
    (tmp_path / "peft.txt").write_text("peft==2\n")
    interpreter("peft", tmp_path / "cache")
    assert len(seen) == 2


def test_a_failure_says_why_and_is_tried_again(installs, tmp_path):
    seen, fails = installs
    fails["code"] = 1
    with pytest.raises(PeerFailed, match=r"peft: peft\.txt could not be installed: no such version"):
        interpreter("peft", tmp_path)
    fails["code"] = 0
    interpreter("peft", tmp_path)
    assert len(seen) == 2


def test_what_was_not_made_here_is_left_alone(installs, tmp_path):
    seen, _ = installs
    (tmp_path / "peft").mkdir()
    interpreter("peft", tmp_path)  # an empty folder is nobody's
    (tmp_path / "peft" / "stamp").unlink()
    (tmp_path / "peft" / "bin").mkdir()
    with pytest.raises(PeerFailed, match=r"peft holds what was not made here: remove it, or name another folder"):
        interpreter("peft", tmp_path)
    assert (tmp_path / "peft" / "bin").is_dir()
    assert len(seen) == 1


def test_an_installer_that_hangs_is_given_up(installs, tmp_path, monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(environments.subprocess, "run", hang)
    with pytest.raises(PeerFailed, match=r"peft: peft\.txt was not installed within 1800 s"):
        interpreter("peft", tmp_path)


def test_chorus_runs_in_this_very_environment(tmp_path):
    assert interpreter(CHORUS, tmp_path) == Path(sys.executable)


def test_every_other_library_has_requirements_pinned_to_one_version_each():
    assert {file.stem for file in REQUIREMENTS.glob("*.txt")} == LIBRARIES.keys() - {CHORUS}
    for file in REQUIREMENTS.glob("*.txt"):
        wanted = [text for text in file.read_text().splitlines() if text and not text.startswith("#")]
        assert all(text.count("==") == 1 and "+" not in text for text in wanted), file


def test_all_contenders_compute_on_a_backbone_of_the_same_torch():
    found = {text for file in REQUIREMENTS.glob("*.txt") for text in file.read_text().splitlines() if "torch==" in text}
    assert len(found) == 1


def test_all_are_told_the_same_but_for_where_python_looks(tmp_path):
    given = {"PATH": "/bin", "PYTHONHOME": "/x", "OMP_WAIT_POLICY": "active", "MALLOC_ARENA_MAX": "1"}
    ours, theirs = (surroundings(given, library, tmp_path, 2) for library in (CHORUS, "adapterhub"))
    assert ours.pop("PYTHONPATH") == str(PACKAGE.parent)
    assert theirs.pop("PYTHONPATH") == str(tmp_path)
    assert ours == theirs
    assert ours["OMP_NUM_THREADS"] == "2"
    assert not ours.keys() & {"PYTHONHOME", "OMP_WAIT_POLICY", "MALLOC_ARENA_MAX"}


def test_other_libraries_see_loadtests_and_no_package_of_ours_called_adapters(tmp_path):
    folder = linked(tmp_path / "links")
    assert linked(tmp_path / "links") == folder
    assert [path.name for path in folder.iterdir()] == ["loadtests"]
    code = "import importlib.util as u; print(u.find_spec('loadtests.peers') is None, u.find_spec('adapters') is None)"
    told = surroundings({}, "adapterhub", folder, 1)
    # -S: without the site-packages of these tests, where `adapters` is ours
    done = subprocess.run([sys.executable, "-S", "-c", code], env=told, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
