"""The raw client, against a server of a few lines: every answer is read whole and judged, and nothing is waited for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace

import pytest

from loadtests.proofs.volley import Gun, Plan, Question, judge, read_plan

GOOD = {
    "target": {"adapters": [{"digest": "sha256:aa"}]},
    "outputs": [[{"label": "a", "score": 1.0}, {"label": "b", "score": -2.0}]],
    "timing_ms": {"forward": 12.5},
}
QUESTION = Question("/v1/predict", "ck_1", '{"inputs": ["caf\u00e9"]}', "sha256:aa", ((1.0, -2.0),))


@dataclass
class Server:
    """Answers with `body`; keeps what it was asked, and on how many connections."""

    body: bytes = json.dumps(GOOD).encode()
    status: str = "200 OK"
    more: str = ""
    hold: asyncio.Event | None = None
    pieces: int = 1
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0
    hang_up: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.asked.append(head + await reader.readexactly(length))
                if self.hold is not None:
                    await self.hold.wait()
                if self.hang_up:
                    break
                told = (
                    f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\n{self.more}\r\n".encode()
                    + self.body
                )
                step = -(-len(told) // self.pieces)
                for start in range(0, len(told), step):
                    writer.write(told[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[int]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def shots(server: Server, plan: Plan, *, closed: bool = False):
    async def run():
        async with serving(server) as port:
            gun = Gun(replace(plan, port=port))
            await (gun.closed if closed else gun.open)(time.monotonic())
            return gun.shots

    return asyncio.run(run())


def test_a_request_is_sent_as_it_is_written_and_its_answer_judged():
    server = Server()
    (shot,) = shots(server, Plan(0, (QUESTION,), at=((0.0, 0),)))
    assert (shot.right, shot.status, shot.forward_ms) == (True, 200, 12.5)
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/predict HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer ck_1" in head
    assert body == QUESTION.body.encode()


def test_without_a_key_no_key_is_sent():
    server = Server()
    shots(server, Plan(0, (replace(QUESTION, key=""),), at=((0.0, 0),)))
    assert b"authorization" not in server.asked[0].lower()


def test_an_answer_in_many_pieces_is_read_whole():
    (shot,) = shots(Server(pieces=50), Plan(0, (QUESTION,), at=((0.0, 0),)))
    assert shot.right


def test_one_after_another_they_share_a_connection_and_nobody_waits_for_it():
    one, held = Server(), Server(hold=asyncio.Event())

    async def run():
        async with serving(held) as port:
            gun = Gun(Plan(port, (QUESTION,), at=((0.0, 0), (0.0, 0), (0.0, 0))))
            firing = asyncio.create_task(gun.open(time.monotonic()))
            while len(held.asked) < 3:  # noqa: ASYNC110 - all three are there, and none was answered
                await asyncio.sleep(0)
            held.hold.set()
            await firing
            return gun.shots

    assert len(asyncio.run(run())) == 3
    assert held.connections == 3
    shots(one, Plan(0, (QUESTION,), closed=(1,), seconds=0.05), closed=True)
    assert one.connections == 1
    assert len(one.asked) > 1


def test_a_connection_that_is_to_be_closed_is_not_used_again():
    server = Server(more="Connection: close\r\n")
    assert all(shot.right for shot in shots(server, Plan(0, (QUESTION,), closed=(1,), seconds=0.05), closed=True))
    assert server.connections == len(server.asked)


def test_hanging_up_and_never_answering_are_faults():
    (shot,) = shots(Server(hang_up=True), Plan(0, (QUESTION,), at=((0.0, 0),)))
    assert (shot.status, shot.fault) == (0, "ConnectionResetError")
    held = Server(hold=asyncio.Event())
    (shot,) = shots(held, Plan(0, (QUESTION,), at=((0.0, 0),), patience_s=0.01))
    assert (shot.status, shot.fault) == (0, "TimeoutError")


def test_a_closed_loop_keeps_so_many_of_each_under_way():
    held = Server(hold=asyncio.Event())

    async def run():
        async with serving(held) as port:
            gun = Gun(Plan(port, (QUESTION, replace(QUESTION, path="/other")), closed=(2, 3), seconds=0.01))
            firing = asyncio.create_task(gun.closed(time.monotonic()))
            while len(held.asked) < 5:  # noqa: ASYNC110 - and no more come
                await asyncio.sleep(0)
            held.hold.set()
            await firing
            return gun.shots

    counts = [shot.question for shot in asyncio.run(run())]
    assert (counts.count(0), counts.count(1)) >= (2, 3)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (200, GOOD, ""),
        (200, {**GOOD, "target": {"adapters": [{"digest": "sha256:bb"}]}}, "wrong: it names another version"),
        (200, {**GOOD, "outputs": [[{"score": 1.0}, {"score": -2.1}]]}, "wrong: another package answered"),
        (200, {**GOOD, "outputs": [[{"score": 1.0}, {"score": float("nan")}]]}, "wrong: another package answered"),
        (200, {**GOOD, "outputs": [[{"score": 1.0}]]}, "wrong: another package answered"),
        (200, {**GOOD, "outputs": []}, "wrong: another package answered"),
        (200, {"outputs": 3}, "200 unreadable"),
        (503, {"code": "overloaded_now"}, "503 overloaded_now"),
        (500, [], "500 unreadable"),
    ],
)
def test_an_answer_is_right_only_where_the_right_adapter_gave_it(status, body, fault):
    assert judge(QUESTION, status, b"HTTP/1.1 200 OK\r\n", json.dumps(body).encode())[0] == fault


def test_whether_a_refusal_says_when_to_come_back_is_seen():
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n"
    assert judge(QUESTION, 503, head, b'{"code": "overloaded_now"}')[1]
    assert not judge(QUESTION, 503, head.replace(b"Retry-After", b"Retry-After-Ms"), b"{}")[1]


def test_a_plan_survives_the_pipe():
    plan = Plan(8000, (QUESTION,), at=((0.5, 0),), closed=(1,), seconds=2.0, core=1)
    assert read_plan(json.dumps(asdict(plan))) == plan
