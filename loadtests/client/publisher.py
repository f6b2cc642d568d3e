"""The process that publishes beside the load: `python -m loadtests.client.publisher`, spoken to as `loadtests.client.process`.

It keeps to its times like the load itself. Each publish is a new version of one name, with other bytes, as large as the
scenario says; where it is to be asked, the time of its first right answer is taken as well. Nothing is sent twice, and the
digest that the service tells has to be that of the bytes.
"""

import asyncio
import hashlib
import json
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from loadtests.client.connection import Answer, Pool
from loadtests.client.judging import RAW, judge
from loadtests.client.plan import FAILED, RIGHT, WRONG, Published, Publishes
from loadtests.client.process import ready, say, telling, write

PATIENCE_S = 60.0
MOST = 256  # publishes under way


@dataclass
class Publisher:
    """Publishes numbered copies of one package."""

    plan: Publishes
    clock: Callable[[], float] = time.monotonic
    published: list[Published] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = Pool(self.plan.place, MOST)
        self._package = bytearray(Path(self.plan.package).read_bytes())

    async def publish(self, start: float) -> None:
        """Everything at its own time; ends with the last answer."""
        async with asyncio.TaskGroup() as group:
            for number, due in enumerate(self.plan.at):
                await asyncio.sleep(max(0.0, start + due - self.clock()))
                group.create_task(self._one(number, start, due))
        self.pool.close()

    def copy(self, number: int) -> bytes:
        """The bytes of a copy."""
        plan = self.plan
        for offset, bias, step in zip(plan.offsets, plan.biases, plan.steps(number), strict=True):
            struct.pack_into("<f", self._package, offset, bias + step)
        return bytes(self._package)

    async def _one(self, number: int, start: float, due: float) -> None:
        plan, data = self.plan, self.copy(number)
        raw = plan.place.request(
            "PUT", f"/v1/adapters/{plan.name}", plan.tenant.key, data, media="application/octet-stream"
        )
        sent, status, answered = self.clock(), 0, None
        verdict, detail = FAILED, ""
        try:
            answer = await self.pool.ask(raw, PATIENCE_S, once=True)
            done, status, told = self.clock(), answer.status, _object(answer)
            verdict, detail = acknowledged(status, told, data)
            if verdict == RIGHT and plan.ask:
                verdict, detail = await self._first(number, str(told["digest"]))
                answered = self.clock() - start if verdict == RIGHT else None
        except (OSError, TimeoutError) as error:
            done, verdict, detail = self.clock(), FAILED, f"{type(error).__name__}: {error}"[:200]
        self.published.append(Published(due, sent - start, done - start, status, answered, verdict, detail, len(data)))

    async def _first(self, number: int, digest: str) -> tuple[str, str]:
        """Ask the copy once; what its answer is worth."""
        plan = self.plan
        first, *others = plan.known.logits[0]
        second, *rest = others
        one, two = plan.steps(number)
        known = replace(plan.known, digest=digest, logits=((first + one, second + two, *rest),))
        asked = {
            "inputs": [plan.text],
            "adapters": [f"{plan.name}@{digest}"],
            "parameters": RAW,
            "timeout_ms": plan.timeout_ms,
        }
        raw = plan.place.request("POST", "/v1/predict", plan.tenant.key, json.dumps(asked).encode())
        judged = judge(await self.pool.ask(raw, PATIENCE_S, once=True), known, (0,), plan.tolerance)
        return judged.verdict, judged.detail


def acknowledged(status: int, told: Mapping[str, Any], data: bytes) -> tuple[str, str]:
    """What the answer to a publish is worth: one that names other bytes than those that were sent is wrong."""
    if status not in (200, 201):
        return FAILED, f"{status} {told.get('code', '')}".strip()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if told.get("digest") != digest:
        return WRONG, f"published as {told.get('digest')}, not {digest}"
    return RIGHT, ""


def main() -> None:
    """Read the plan, wait for the word, publish, and tell."""
    publisher = Publisher(TypeAdapter(Publishes).validate_json(sys.stdin.readline()))
    start = ready()
    asyncio.run(telling(publisher.publish(start), lambda: {"published": len(publisher.published)}, 0.5))
    write(publisher.plan.written, publisher.published)
    say({"published": len(publisher.published)})


def _object(answer: Answer) -> dict[str, Any]:
    try:
        told = json.loads(answer.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


if __name__ == "__main__":
    main()
