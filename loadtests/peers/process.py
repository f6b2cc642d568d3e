"""The run's side of a library's process: start it on the cores that all share in turn, ask it, end it."""

import json
import os
import selectors
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadtests.peers.messages import line

ANSWER_S = 900.0  # loading converts a model, which takes minutes on a small machine
ENDING_S = 20.0


class PeerFailed(Exception):
    """A library could not be installed, loaded or run; names it, and says what it said."""

    def __init__(self, library: str, reason: str) -> None:
        super().__init__(f"{library}: {reason}")
        self.library = library


class PeerProcess:
    """One process of one library. Asked by one caller at a time; to be closed."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], cores: Sequence[int], log: Path
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own module under an interpreter that we made
                list(command), env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        # Before it has started a thread: all of them inherit it, also those of libraries that count cores themselves.
        os.sched_setaffinity(self._process.pid, cores)

    def ask(self, message: Mapping[str, Any], patience_s: float = ANSWER_S) -> dict[str, Any]:
        """The answer to a message; raises `PeerFailed` where it reports an error, dies, or says nothing for that long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line(message).encode())
            self._process.stdin.flush()
            text = self._line(patience_s)
        except BrokenPipeError:
            text = b""
        if not text.endswith(b"\n"):
            raise PeerFailed(self.name, f"its process ended; it last said: {self._last_words()}")
        answer: dict[str, Any] = json.loads(text)
        if "error" in answer:
            raise PeerFailed(self.name, f"{answer['error']} (more in {self._log})")
        return answer

    def close(self) -> None:
        """End the process: it ends by itself once its input has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended before
            self._process.stdin.close()
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _line(self, patience_s: float) -> bytes:
        """What it writes up to the end of the line, or of its life."""
        assert self._process.stdout is not None
        text = b""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            while not text.endswith(b"\n"):
                if not waiting.select(patience_s):
                    raise PeerFailed(
                        self.name, f"no answer within {patience_s:g} s; it last said: {self._last_words()}"
                    )
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    return b""
                text += piece
        return text

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace").strip()[-400:] or "nothing"
