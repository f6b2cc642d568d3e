"""Log lines: their shape, their scope, and what never gets into them."""

import ast
import io
import json
import logging
from pathlib import Path

import pytest

import serving
from serving.errors import NotReady
from serving.logs import configure, log, request_scope
from serving.registry.database import Database


@pytest.fixture
def lines():
    stream = io.StringIO()
    configure(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger("chorus").handlers.clear()


def test_a_line_is_one_json_object_with_its_fields(lines):
    log("engine", "step failed\nbadly", level=logging.WARNING, rows=3, tier="host")
    (line,) = lines()
    assert line["part"] == "engine"
    assert line["message"] == "step failed\nbadly"
    assert line["level"] == "warning"
    assert (line["rows"], line["tier"]) == (3, "host")
    assert line["time"].endswith("+00:00")


def test_lines_within_a_request_carry_it_and_lines_after_do_not(lines):
    with request_scope("req_1"):
        log("api", "before the key is known")
        with request_scope("req_1", "acme"):
            log("api", "inside")
        log("api", "after")
    log("api", "outside")
    found = lines()
    assert [line.get("request_id") for line in found] == ["req_1", "req_1", "req_1", None]
    assert [line.get("tenant") for line in found] == [None, "acme", None, None]


def test_an_error_brings_its_traceback(lines):
    try:
        raise KeyError("gone")
    except KeyError:
        log("engine", "lost", error=True)
    (line,) = lines()
    assert line["error"] == "KeyError"
    assert "test_logs" in line["traceback"]


def test_no_error_means_no_traceback(lines):
    log("engine", "fine", error=True)
    assert "traceback" not in lines()[0]


@pytest.mark.parametrize("name", ["input", "Authorization", "key", "text"])
def test_fields_that_may_hold_inputs_or_keys_are_refused(lines, name):
    with pytest.raises(AssertionError, match="may hold inputs or keys"):
        log("api", "oops", **{name: "secret"})
    assert lines() == []


def test_below_the_level_nothing_is_written(lines):
    log("engine", "detail", level=logging.DEBUG)
    assert lines() == []


def test_values_that_json_lacks_are_written_as_text(lines):
    log("engine", "odd", where=object)
    assert "object" in lines()[0]["where"]


def test_the_registrys_warnings_are_lines_like_all_others(lines, tmp_path):
    database = Database.open(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    database.close()
    (tmp_path / "registry.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(NotReady), database.read():
        pass
    (line,) = lines()
    assert (line["part"], line["level"], line["why"]) == ("registry", "warning", "DatabaseError")


def test_no_module_has_a_logger_of_its_own_name():
    """What `configure` sets up is `chorus.*`; a logger called after its module would reach no log file."""
    package = Path(serving.__file__).parent
    wrong = [
        path.name
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("getLogger")
        and "__name__" in ast.unparse(node)
    ]
    assert wrong == []
