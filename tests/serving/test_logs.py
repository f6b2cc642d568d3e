"""Log lines: their shape, their scope, and what never gets into them."""

import ast
import asyncio
import io
import json
import logging
from pathlib import Path

import pytest

import serving
from adapters.errors import InvalidName
from serving.errors import NotReady
from serving.logs import adopt, configure, log, note, noted, request_id, request_scope, rotating
from serving.registry.database import Database

NASTY = "a\r\nb\x1b[31mc\x1b]0;d\x07\x7f\x85\x9b31m\u2028\u202e\ud800\0"


@pytest.fixture
def lines():
    stream = io.StringIO()
    configure(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def lines_of():
    """What is written while something runs, as text."""

    def written(run) -> str:
        stream = io.StringIO()
        configure(stream=stream)
        run()
        return stream.getvalue()

    return written


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


def test_the_request_is_known_within_its_scope_only():
    assert request_id() == ""
    with request_scope("req_1", trace_id="0af7"):
        assert request_id() == "req_1"
    assert request_id() == ""


def test_the_trace_is_told_where_there_is_one(lines):
    with request_scope("req_1", trace_id="0af7"):
        log("api", "traced")
    with request_scope("req_2"):
        log("api", "not traced")
    assert [line.get("trace_id") for line in lines()] == ["0af7", None]


def test_what_is_noted_in_a_task_of_the_request_is_told_by_every_later_line_of_it(lines):
    """The line of the access log is written above the task that learns the digests."""

    async def learn():
        with request_scope("req_1", "acme"):
            note(digests=("sha256:1",))

    async def run():
        with request_scope("req_1"):
            log("api", "before")
            await asyncio.create_task(learn())
            assert noted("digests") == ("sha256:1",)
            log("api", "after")
        note(digests="nobody's")
        log("api", "outside")

    asyncio.run(run())
    assert [line.get("digests") for line in lines()] == [None, ["sha256:1"], None]
    assert noted("digests") is None


def test_requests_that_run_at_once_keep_their_notes_apart(lines):
    async def one(name):
        with request_scope(name):
            await asyncio.sleep(0)
            note(digests=name)
            await asyncio.sleep(0)
            log("api", "done")

    async def both():
        await asyncio.gather(one("req_1"), one("req_2"))

    asyncio.run(both())
    assert [(line["request_id"], line["digests"]) for line in lines()] == [("req_1", "req_1"), ("req_2", "req_2")]


def test_no_value_ends_a_line_or_reaches_a_terminal_raw(lines_of):
    text = lines_of(lambda: log("api", NASTY, tenant=NASTY, path=NASTY, tags=[NASTY], **{NASTY: 1}))
    assert text.isascii()
    assert text.endswith("\n")
    assert all(character.isprintable() for character in text[:-1])
    line = json.loads(text)
    assert (line["message"], line["tenant"], line["tags"], line[NASTY]) == (NASTY, NASTY, [NASTY], 1)


def test_no_value_ends_a_line_in_the_scope_of_a_request_either(lines_of):
    def tell():
        with request_scope(NASTY, NASTY, NASTY):
            note(digests=NASTY)
            log("api", "x")

    text = lines_of(tell)
    assert text.count("\n") == 1
    assert text.isascii()


@pytest.mark.parametrize(
    "error", [KeyError("canary"), ValueError("canary"), UnicodeError("canary"), Exception("canary")]
)
def test_the_words_of_an_exception_that_may_quote_an_input_are_withheld(lines, error):
    try:
        try:
            raise error
        except Exception as caught:
            raise TypeError("canary") from caught
    except TypeError:
        log("engine", "lost", error=True)
    told = lines()[0]["traceback"]
    words = [line for line in told.splitlines() if not line.startswith("  ")]  # without the lines of the source
    withheld = "(what it says is withheld: it may quote an input)"
    assert words == [f"{type(error).__name__}: {withheld}", "then:", f"TypeError: {withheld}"]


@pytest.mark.parametrize(
    "error", [NotReady("SQL is away"), InvalidName("SQL is away"), OSError("SQL is away"), RuntimeError("SQL is away")]
)
def test_the_words_of_our_own_exceptions_and_of_the_system_are_told(lines, error):
    try:
        raise error
    except Exception:
        log("engine", "lost", error=True)
    assert "SQL is away" in lines()[0]["traceback"].splitlines()[-1]


def test_every_member_of_a_group_of_exceptions_is_told(lines):
    try:
        raise ExceptionGroup("two", [OSError("disk full"), ValueError("canary")])
    except ExceptionGroup:
        log("engine", "lost", error=True)
    told = lines()[0]["traceback"]
    assert "disk full" in told
    assert "ValueError: (what it says is withheld" in told


def test_a_chain_of_exceptions_that_bites_its_tail_ends(lines):
    one, other = OSError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    try:
        raise one
    except OSError:
        log("engine", "lost", error=True)
    assert lines()[0]["traceback"].count("then:") == 1


def test_a_librarys_warnings_become_lines_of_ours(lines):
    adopt("somelib")
    logging.getLogger("somelib.part").warning("collector %s\x1b", "away")
    logging.getLogger("somelib.part").info("chatter")
    (line,) = lines()
    assert (line["part"], line["level"], line["message"]) == ("somelib.part", "warning", "collector away\x1b")
    logging.getLogger("somelib").handlers.clear()


def test_lines_may_go_to_a_file_that_starts_anew(tmp_path):
    path = tmp_path / "gateway.log"
    with rotating(path, max_bytes=300, keep=9) as stream:
        configure(stream=stream)
        for i in range(10):
            log("api", "request", number=i)
    held = [line for file in tmp_path.glob("gateway.log*") for line in file.read_text().splitlines()]
    assert sorted(json.loads(line)["number"] for line in held) == list(range(10))
    assert len(list(tmp_path.glob("gateway.log.[0-9]*"))) > 2


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


@pytest.mark.parametrize("name", ["input", "Authorization", "key", "text", "Body", "headers"])
@pytest.mark.parametrize("tell", [lambda **fields: log("api", "oops", **fields), note])
def test_fields_that_may_hold_inputs_or_keys_are_refused(lines, name, tell):
    with request_scope("req_1"), pytest.raises(AssertionError, match="may hold inputs or keys"):
        tell(**{name: "secret"})
    assert lines() == []


@pytest.mark.parametrize("name", ["time", "traceback"])
def test_fields_do_not_take_the_place_of_what_a_line_is(lines, name):
    with pytest.raises(AssertionError, match="have a meaning already"):
        log("api", "oops", **{name: "x"})
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
