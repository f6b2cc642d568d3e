"""The wheel that the image installs: built as the Dockerfile builds it, and started from an environment of its own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the files that the Dockerfile copies, by the back end that is installed here."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in ("pyproject.toml", "README.md", "LICENSE", "adapters", "serving"):
        (source / name).symlink_to(ROOT / name)
    build = [sys.executable, "-c", f"from hatchling.build import build_wheel; print(build_wheel({str(target)!r}))"]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


def test_it_holds_both_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} - {wheel.name.rsplit("-", 3)[0] + ".dist-info"} == {
        "adapters",
        "serving",
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith((".safetensors", ".sqlite"))]


@pytest.mark.parametrize("package", ["adapters", "serving"])
def test_every_module_is_in_it(wheel, package):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
    assert wanted - names == set()


def test_it_starts_from_an_environment_of_its_own(wheel, tmp_path):
    """The dependencies are those of this environment, which the new one sees behind its own packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    behind = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    own = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (own / "behind.pth").write_text(f"{behind}\n")
    command = [tmp_path / "venv" / "bin" / "chorus", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "chorus"
    where = subprocess.run(
        [python, "-c", "import serving, adapters; print(serving.__file__, adapters.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(own)) for path in where.stdout.split())
