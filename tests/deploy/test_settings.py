"""The settings reference is what the code says."""

import dataclasses
import importlib.util
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from serving.cluster import Arguments
from serving.config import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "settings"


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("deploy_settings", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_prints_from_any_folder(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    held = (ROOT / "deploy" / "SETTINGS.md").read_text()
    assert held == done.stdout, "run: .venv/bin/python deploy/settings > deploy/SETTINGS.md"


def test_every_option_and_every_value_is_there(script):
    page = script.page()
    for field in dataclasses.fields(ServiceSettings):
        assert f"| `{field.name}` |" in page
    for name in Arguments.model_fields:
        assert f"| `{name}` |" in page
    for option in ("--backbone", "--database-url", "--trace-endpoint", "--device-cache"):
        assert f"| `{option}` |" in page
    assert "| `--database-url` | `CHORUS_DATABASE_URL` |" in page


def test_defaults_are_written_as_one_would_type_them(script):
    assert script.value(0) == "`0`"
    assert script.value(False) == script.value("") == script.value(None) == ""
    assert script.value(64 << 20, "log_bytes") == "`64MiB`"
    assert script.value(3, "max_body_bytes") == "`3B`"


def test_a_bar_in_a_text_does_not_end_its_cell(script):
    assert script.table(("a",), iter([("b|c",)])) == "| a |\n| --- |\n| b\\|c |\n"
