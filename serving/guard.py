"""The process that ends what a service leaves when it is killed: it waits for the service's end, and outlives it.

Ray's own processes end soon after a service that is killed, but its HAProxy does not: it would keep the port and answer
for nobody until the next start. What has been started carries a mark that no other start has, so that whoever starts the
service again at once has nothing to fear.
"""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.premises import end_all

MARK = "CHORUS_START"
_ROOT = Path(__file__).resolve().parents[1]  # where `-m` finds the service
_SPARED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # a supervisor signals everybody; this one is to be the last


@contextmanager
def guarded() -> Iterator[dict[str, str]]:
    """Meanwhile a process waits for the end of this one; gives the variable by which it knows what to end then."""
    mark = secrets.token_hex(8)
    guard = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "serving.guard", mark], cwd=_ROOT, stdin=subprocess.PIPE, start_new_session=True
    )
    assert guard.stdin is not None
    try:
        yield {MARK: mark}
    finally:
        guard.stdin.close()
        guard.wait()


def main() -> None:
    """Read until whoever holds the other end is gone, however it went, then end what carries the mark."""
    for number in _SPARED:
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_all(f"{MARK}={sys.argv[1]}")


if __name__ == "__main__":
    main()
