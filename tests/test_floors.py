"""The house holds: floors, sizes, mirrored tests, and the few things that may happen in few places only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import adapters
import serving

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("adapters", "serving", "loadtests")
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "adapters", "serving", "deploy", "loadtests", "tests"}
IGNORED_TOP_LEVEL = {"data", "dist"}  # .gitignore: what a service and a build leave behind

MAX_FILE = 300  # lines
MAX_FUNCTION = 60
MAX_MEDIAN = 120

# module -> why it has no test file of its own
UNMIRRORED: dict[str, str] = {
    "adapters/formats/peft/tuner.py": "a protocol and values only",
    "adapters/kernels/interface.py": "a protocol only",
    "serving/api/services.py": "protocols only",
    "serving/api/residency_answers.py": "types only",
    "serving/dispatch/flights.py": "values only",
    "serving/dispatch/ports.py": "protocols and values only",
    "serving/errors.py": "a table; the problems of the API are tested row by row",
    "serving/images/frame.py": "values only",
    "serving/registry/inspection.py": "values only",
    "serving/registry/migrations/env.py": "Alembic's entry point; every test of the database runs it",
    "serving/registry/migrations/versions/first_light.py": "one migration; the catalog's tests run on what it makes",
    "serving/registry/migrations/versions/targets.py": "one migration; the catalog's tests run on what it makes",
    "serving/registry/tables.py": "tables; tested through the catalog",
    "serving/request.py": "values only",
    "serving/scheduler/waiting.py": "values only",
}
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
PICKLE_OPENER = "adapters/formats/convert_worker.py"
ENVIRONMENT_READERS = {"serving/config.py", "serving/deployment.py", "serving/cli.py"}
THE_LOOP = "serving/scheduler/loop.py"


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def has_code(path: Path) -> bool:
    """More than a docstring."""
    body = tree(path).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_import_contracts_are_kept():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", [adapters, serving], ids=lambda package: package.__name__)
def test_these_are_the_packages_of_this_repository(package):
    assert Path(package.__file__) == ROOT / package.__name__ / "__init__.py"


def test_the_visible_top_level_is_fixed():
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__pycache__"))}
    assert visible - IGNORED_TOP_LEVEL == TOP_LEVEL


def test_every_module_with_code_has_its_test_file():
    modules = [
        path for path in sources(*PACKAGES) if has_code(path) and path.name not in ("__init__.py", "__main__.py")
    ]
    lacking = {
        named(path)
        for path in modules
        if not (ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.name}").is_file()
    }
    assert lacking - UNMIRRORED.keys() == set(), "write the test file, or give a reason in UNMIRRORED"
    assert UNMIRRORED.keys() - lacking == set(), "these have a test file, or are gone"


def test_every_test_folder_is_a_package():
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [named(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_package_inits_hold_words_and_tables_only():
    wrong = [
        named(path)
        for path in sources(*PACKAGES, "tests")
        if path.name == "__init__.py"
        and any(not isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) for node in tree(path).body)
    ]
    assert wrong == []


def test_nobody_imports_from_the_init_of_a_package():
    def through_init(module: str, name: str | None) -> bool:
        parts = module.split(".")
        folder = ROOT.joinpath(*parts)
        if name is None or parts[0] not in PACKAGES or not folder.is_dir():
            return False
        return not ((folder / f"{name}.py").is_file() or (folder / name).is_dir())

    wrong = [(named(p), *found) for p in sources(*PACKAGES, "tests") for found in imported(p) if through_init(*found)]
    assert wrong == []


def test_pickles_are_opened_in_one_place_only():
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for path in sources(*PACKAGES):
        if named(path) == PICKLE_OPENER:
            continue
        modules = {module.split(".")[0] for module, _ in imported(path)}
        assert not modules & forbidden, named(path)
        loads = [
            node
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Attribute) and node.attr == "load" and ast.unparse(node.value) in ("torch", "th")
        ]
        assert not loads and ("torch", "load") not in imported(path), f"{named(path)} calls torch.load"


def test_the_environment_is_read_in_three_files_only():
    readers = {
        named(path)
        for path in sources("adapters", "serving")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")
    }
    readers |= {
        named(path)
        for path in sources("adapters", "serving")
        for module, name in imported(path)
        if module == "os" and name in ("environ", "getenv")
    }
    assert readers <= ENVIRONMENT_READERS


def test_there_is_one_endless_loop():
    endless = [
        named(path)
        for path in sources(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and node.test.value
    ]
    assert endless == [THE_LOOP]


def test_files_are_short():
    counts = {named(path): len(path.read_text().splitlines()) for path in sources(*PACKAGES, "tests/conformance")}
    long = {name: count for name, count in counts.items() if count > MAX_FILE}
    assert long.keys() == LONG_FILES.keys(), long
    sizes = sorted(count for name, count in counts.items() if not name.endswith("__init__.py"))
    assert sizes[len(sizes) // 2] <= MAX_MEDIAN


def test_functions_are_short():
    long = {
        f"{named(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in sources(*PACKAGES, "tests/conformance")
        for node in functions(path)
        if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION
    }
    assert long.keys() == LONG_FUNCTIONS.keys(), long


def test_every_module_says_what_it_is():
    silent = [named(path) for path in sources(*PACKAGES) if has_code(path) and not ast.get_docstring(tree(path))]
    assert silent == []


def test_no_path_of_one_machine_is_written_down():
    homes = ("/work/", "/root/", "/home/")
    texts = [*sources(*PACKAGES), ROOT / "pyproject.toml", *sorted((ROOT / "deploy").glob("*"))]
    wrong = [
        named(path)
        for path in texts
        if path.is_file() and any(home in path.read_text(errors="ignore") for home in homes)
    ]
    assert wrong == []
