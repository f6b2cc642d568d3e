"""`chorus` as a test runs it: in this process, against a service of fakes on a real socket."""

import json
from dataclasses import dataclass

from typer.testing import CliRunner, Result

from serving.cli import app


@dataclass(frozen=True)
class Hand:
    """An operator at one service, with or without a key."""

    url: str
    key: str = ""

    def run(self, *arguments: object, code: int = 0, stdin: str | None = None) -> Result:
        """Run one command and expect its exit code."""
        env = {"CHORUS_HOST": self.url, "CHORUS_API_KEY": self.key, "COLUMNS": "200", "NO_COLOR": "1"}
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, env=env)
        assert result.exit_code == code, f"exit {result.exit_code}\n{result.output}\n{result.exception!r}"
        return result

    def json(self, *arguments: object, code: int = 0) -> object:
        """Run one command with `--json` and read what it printed."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)
