import json
import subprocess
import sys

import pytest
import typer.main

from adapters.errors import InvalidName, Misfit
from serving import errors
from serving.api.app import build_app
from serving.cli import app, exit_code
from tests.serving import fakes
from tests.serving.hand import Hand
from tests.serving.server import serve

NOWHERE = Hand("http://127.0.0.1:1")
HEAVY = ("torch", "ray", "transformers", "sqlalchemy", "alembic", "fastapi", "tokenizers", "numpy")


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


@pytest.fixture
def hand(held):
    with serve(build_app(held.services)) as url:
        yield Hand(url)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound(""), 3),
        (errors.Conflict(""), 4),
        (errors.PreconditionFailed(""), 4),
        (errors.NotReady(""), 5),
        (errors.DeadlineExceeded(""), 5),
        (errors.Overloaded(""), 5),
        (errors.Unauthenticated(""), 6),
        (errors.Forbidden(""), 6),
        (errors.Unprocessable(""), 1),
        (errors.ServiceError(""), 1),
        (Misfit(["x"]), 1),
        (InvalidName("x"), 1),
        (FileNotFoundError(), 3),
        (PermissionError(), 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error, code):
    assert exit_code(error) == code


def test_errors_go_to_stderr_and_the_exit_code_says_which(hand, held):
    for arguments, code in ((("show", "nothing"), 3), (("show", "NOT A NAME"), 1), (("show",), 2), (("sing",), 2)):
        result = hand.run(*arguments, code=code)
        assert result.stdout == ""
        assert result.stderr
    assert "does not answer" in NOWHERE.run("ls", code=5).stderr
    held.keyring.add("acme", "predict")
    assert "error:" in hand.run("ls", code=6).stderr


def test_the_key_of_the_environment_is_sent(hand, held):
    secret = held.keyring.add("acme", "predict").secret
    assert Hand(hand.url, secret).json("ls") == {"items": []}
    hand.run("ls", code=6)
    Hand(hand.url, secret).run("rm", "tone", code=6)


def test_the_first_help_says_how_a_key_is_given():
    assert "CHORUS_API_KEY" in NOWHERE.run("--help").stdout


def test_the_url_of_the_command_line_comes_first(hand):
    assert NOWHERE.run("--url", hand.url, "ls").stdout.startswith("NAME")


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_every_command_has_json_but_those_that_only_change_something():
    changing = {"serve", "demo", "convert", "pull", "rm", "activate", "alias", "promote", "rollback"}
    changing |= {"key revoke", "tenant rm", "target rm", "embedding rm"}
    found = dict(commands(typer.main.get_command(app)))
    without = {name for name, command in found.items() if not any("--json" in option.opts for option in command.params)}
    assert without == changing
    assert len(found) > 40


def test_every_option_says_what_it_is():
    silent = {
        (name, option.opts[-1])
        for name, command in commands(typer.main.get_command(app))
        for option in command.params
        if option.param_type_name == "option" and not option.help
    }
    assert silent == set()


def test_every_read_has_json(hand):
    for command in (("ls",), ("ls", "--embedding"), ("ps",), ("key", "ls"), ("doctor",), ("embedding", "active")):
        assert json.loads(hand.run(*command, "--json").stdout) is not None


@pytest.mark.parametrize(
    ("option", "value"),
    [("--device-cache", "much"), ("--host-cache", "1XB"), ("--engines", 0), ("--port", 70000), ("--dtype", "int8")],
)
def test_a_wrong_setting_is_a_usage_error_that_names_it(tmp_path, option, value):
    result = NOWHERE.run("serve", "--backbone", tmp_path, "--data", tmp_path, option, value, code=2)
    assert option in result.stderr


@pytest.mark.parametrize("command", [("ls",), ("ps",), ("predict", "i", "-a", "base", "--task", "feature-extraction")])
def test_commands_over_http_import_nothing_heavy(hand, command):
    program = (
        "import sys\n"
        "from serving.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--url", hand.url, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_runs_as_a_module_and_tells_its_version():
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "chorus")
