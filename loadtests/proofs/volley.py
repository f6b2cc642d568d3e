"""A client that is no bottleneck: `python -m loadtests.proofs.volley`, a process of its own on a core of its own.

    stdin    a plan (one line of JSON), then the time at which to begin (monotonic seconds, the machine's)
    stdout   "ready", then the shots (one line of JSON)

Open loop: every request leaves at its own time, whatever became of the ones before. Closed loop: every question has so
many requests under way, always. HTTP/1.1 over raw connections, one request on each at a time, and nothing is imported
that is not needed: what it costs is told, and is a fraction of what the service pays for the same request.
"""

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any

TOLERANCE = 1e-4  # of float32
URGENT = -15  # its priority, where it may have one
BACK_OFF_S = 0.05  # of a closed loop, after a refusal


@dataclass(frozen=True)
class Question:
    """One request as it goes over the wire, and what has to be answered."""

    path: str
    key: str  # empty for a service without keys
    body: str
    digest: str
    logits: tuple[tuple[float, ...], ...]  # of every input

    def raw(self, port: int) -> bytes:
        """The request."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        if self.key:
            head += f"Authorization: Bearer {self.key}\r\n"
        head += f"Content-Length: {len(self.body.encode())}\r\n\r\n"
        return head.encode() + self.body.encode()


@dataclass(frozen=True)
class Plan:
    """What to send where: `at` holds seconds after the beginning and the question, or `closed` says how many of each."""

    port: int
    questions: tuple[Question, ...]
    at: tuple[tuple[float, int], ...] = ()
    closed: tuple[int, ...] = ()  # requests under way, by question
    seconds: float = 0.0  # of a closed loop
    patience_s: float = 30.0
    core: int | None = None
    tolerance: float = TOLERANCE  # absolute, on raw logits


@dataclass(frozen=True, slots=True)
class Shot:
    """One request: when it was due, sent and answered (monotonic seconds), and what came of it."""

    question: int
    due: float
    sent: float
    done: float
    status: int  # 0 where no answer came
    fault: str  # "" is right
    retry_after: bool
    forward_ms: float  # of the step that answered it

    @property
    def seconds(self) -> float:
        """From due to done."""
        return self.done - self.due

    @property
    def right(self) -> bool:
        """Whether it was answered, and by the right adapter."""
        return not self.fault


def judge(
    question: Question, status: int, headers: bytes, body: bytes, tolerance: float = TOLERANCE
) -> tuple[str, bool, float]:
    """What is wrong with an answer ("" for nothing), whether it says when to come back, and its step in milliseconds."""
    later = b"\r\nretry-after:" in headers.lower()
    try:
        told = json.loads(body)
        if status != 200:
            return f"{status} {told.get('code', '')}".strip(), later, 0.0
        scores = [[entry["score"] for entry in output] for output in told["outputs"]]
        forward = float(told["timing_ms"]["forward"])
        if told["target"]["adapters"][-1]["digest"] != question.digest:
            return "wrong: it names another version", later, forward
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return f"{status} unreadable", later, 0.0
    if not _near(scores, question.logits, tolerance):
        return "wrong: another package answered", later, forward
    return "", later, forward


def _near(scores: Sequence[Sequence[float]], logits: Sequence[Sequence[float]], tolerance: float) -> bool:
    if [len(row) for row in scores] != [len(row) for row in logits]:
        return False
    pairs = ((a, b) for row, right in zip(scores, logits, strict=True) for a, b in zip(row, right, strict=True))
    return all(abs(a - b) <= tolerance for a, b in pairs)  # false for NaN


class Line(asyncio.Protocol):
    """One connection; `idle` takes it back once its answer is whole."""

    def __init__(self, idle: "deque[Line]") -> None:
        self._idle = idle
        self._buffer = bytearray()
        self._whole: int | None = None  # bytes of head and body
        self._head = 0
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def ask(self, raw: bytes) -> "asyncio.Future[tuple[int, bytes, bytes]]":
        """Send one request; status, head and body of its answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Of `asyncio.Protocol`."""
        if self in self._idle:
            self._idle.remove(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("hung up"))

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        self._buffer += data
        if self._whole is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = end + 4
            _, _, length = bytes(self._buffer[:end]).lower().partition(b"content-length:")
            self._whole = self._head + int(length.partition(b"\r\n")[0] or 0)
        if len(self._buffer) < self._whole:
            return
        head, body = bytes(self._buffer[: self._head]), bytes(self._buffer[self._head : self._whole])
        self._buffer.clear()
        self._whole = None
        answer, self._answer = self._answer, None
        if b"connection: close" in head.lower():
            self.close()
        else:
            self._idle.append(self)
        if answer is not None and not answer.done():
            answer.set_result((int(head[9:12]), head, body))


class Gun:
    """Sends the requests of one plan, and remembers what came of them."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self.shots: list[Shot] = []
        self._plan = plan
        self._clock = clock
        self._raw = [question.raw(plan.port) for question in plan.questions]
        self._idle: deque[Line] = deque()

    async def open(self, start: float) -> None:
        """Everything at its own time."""
        async with asyncio.TaskGroup() as group:
            for offset, question in self._plan.at:
                due = start + offset
                await asyncio.sleep(max(0.0, due - self._clock()))  # also when late: answers must be read
                group.create_task(self._shoot(question, due))

    async def closed(self, start: float) -> None:
        """So many of each question, all the while."""
        end = start + self._plan.seconds

        async def keep(question: int) -> None:
            await asyncio.sleep(max(0.0, start - self._clock()))
            while self._clock() < end:
                if not (await self._shoot(question, self._clock())).right:
                    await asyncio.sleep(BACK_OFF_S)

        many = [keep(question) for question, count in enumerate(self._plan.closed) for _ in range(count)]
        await asyncio.gather(*many)

    async def _shoot(self, number: int, due: float) -> Shot:
        sent, line = self._clock(), None
        try:
            async with asyncio.timeout(self._plan.patience_s):
                line = self._idle.pop() if self._idle else await self._connect()
                status, head, body = await line.ask(self._raw[number])
        except (OSError, TimeoutError) as error:
            if line is not None:
                line.close()
            shot = Shot(number, due, sent, self._clock(), 0, type(error).__name__, False, 0.0)
        else:
            done = self._clock()
            found = judge(self._plan.questions[number], status, head, body, self._plan.tolerance)
            shot = Shot(number, due, sent, done, status, *found)
        self.shots.append(shot)
        return shot

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: Line(self._idle), "127.0.0.1", self._plan.port)
        return line


def read_plan(text: str) -> Plan:
    """A plan from its JSON."""
    told: dict[str, Any] = json.loads(text)
    questions = tuple(
        Question(**{**item, "logits": tuple(map(tuple, item["logits"]))}) for item in told.pop("questions")
    )
    at, closed = tuple((float(due), int(number)) for due, number in told.pop("at")), tuple(told.pop("closed"))
    return Plan(questions=questions, at=at, closed=closed, **told)


def main() -> None:
    """Read the plan, wait for the word, shoot, and tell."""
    plan = read_plan(sys.stdin.readline())
    if plan.core is not None:
        os.sched_setaffinity(0, {plan.core})
    with suppress(PermissionError):  # it needs little, and that at once: else its own waits are taken for the service's
        os.setpriority(os.PRIO_PROCESS, 0, URGENT)
    print("ready", flush=True)
    start, gun = float(sys.stdin.readline()), Gun(plan)
    began = time.process_time()
    asyncio.run(gun.open(start) if plan.at else gun.closed(start))
    cpu = time.process_time() - began
    json.dump({"cpu_s": cpu, "shots": [astuple(shot) for shot in gun.shots]}, sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
