"""A client process: `python -m loadtests.client.process`.

    stdin    a plan (one line of JSON), then the time at which to begin (monotonic seconds, the machine's)
    stdout   "ready", then now and then what is done so far, and at the end its lag (a line of JSON each)

Samples go to the plan's file, one line of JSON each.
"""

import asyncio
import gc
import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from loadtests.client.plan import Plan
from loadtests.client.sending import Sender

URGENT = -10  # its priority, where it may have one: else its own waits are taken for the service's


def main() -> None:
    """Read the plan, wait for the word, send, and tell."""
    plan = TypeAdapter(Plan).validate_json(sys.stdin.readline())
    sender = Sender(plan)
    start = ready()
    asyncio.run(telling(sender.send(start), lambda: progress(sender), plan.heard_s))
    write(plan.written, sender.samples)
    say({"lag": asdict(sender.lag())})


def ready() -> float:
    """Tell that all is prepared, and wait for the time at which to begin."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each request that is under way
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, URGENT)
    with suppress(
        OSError
    ):  # where Linux groups processes by session, only the group's own priority counts between groups
        Path("/proc/self/autogroup").write_text(str(URGENT))
    gc.collect()
    gc.freeze()  # the plan stays: no collection has to look at it again while times are kept
    print("ready", flush=True)
    return float(sys.stdin.readline())


async def telling(work: Any, so_far: Callable[[], dict[str, Any]], every_s: float) -> None:
    """Do the work, and tell how far it is."""

    async def tell() -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), every_s)
                return
            say(so_far())

    done = asyncio.Event()
    teller = asyncio.create_task(tell())
    try:
        await work
    finally:
        done.set()
        await teller
        say(so_far())


def progress(sender: Sender) -> dict[str, Any]:
    """How many samples there are, by verdict."""
    return {"done": dict(Counter(sample.verdict for sample in sender.samples))}


def say(told: dict[str, Any]) -> None:
    """One line."""
    print(json.dumps(told), flush=True)


def write(path: str, values: Iterable[Any]) -> None:
    """One line of JSON for each value."""
    with Path(path).open("w") as file:
        file.writelines(json.dumps(asdict(value)) + "\n" for value in values)


if __name__ == "__main__":
    main()
