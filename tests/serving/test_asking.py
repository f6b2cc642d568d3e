"""One question to all replicas: whoever is slow, gone or broken costs no other its word."""

import asyncio
from contextvars import ContextVar

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError

from serving.asking import NoAnswer, ask, broadcast, each
from serving.dispatch.ports import ReplicaLeft
from serving.errors import DependencyFailed
from tests.serving.test_routing import NOBODY, Handle
from tests.serving.virtual_time import run

GONE = NoAnswer("this replica is gone")


class Replicas:
    """A handle whose calls reach the named replica: it answers, raises what is an exception, or is silent (None)."""

    def __init__(self, **answers):
        self.answers, self.asked, self.ended = answers, [], []

    def options(self, *, method_name):
        self.method = method_name
        return self

    async def remote(self, *args, replica):
        self.asked.append((self.method, args, replica))
        answer = self.answers[replica]
        try:
            if answer is None:
                await asyncio.sleep(3600)
        finally:
            self.ended.append(replica)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_a_broadcast_leaves_out_who_failed_and_survives_silence():
    async def main():
        assert await broadcast(Handle({"m": [1, RayActorError(), 2]}), "m") == [1, 2]
        assert await broadcast(Handle({"m": NOBODY}), "m") == []
        assert await broadcast(Handle({"m": TimeoutError()}), "m") == []
        with pytest.raises(TimeoutError):
            await ask(Handle({"m": TimeoutError()}), "m", timeout_s=1)

    run(main())


def test_every_replica_is_asked_once_by_its_name_and_answers_for_itself():
    async def main():
        engines = Replicas(b=2, a=1)
        assert await each(engines, "room", "x", 7, replicas=("b", "a"), timeout_s=5) == {"a": 1, "b": 2}
        assert engines.asked == [("room", ("x", 7), "a"), ("room", ("x", 7), "b")]
        assert await each(engines, "room", replicas=(), timeout_s=5) == {}

    run(main())


def test_the_silent_one_is_told_of_after_the_time_and_its_call_is_ended():
    async def main():
        loop, engines = asyncio.get_running_loop(), Replicas(a=None, b="done")
        began = loop.time()
        told = await each(engines, "m", replicas="ab", timeout_s=5)
        assert told == {"a": NoAnswer("no answer in 5 s", silent=True), "b": "done"}
        assert loop.time() - began == pytest.approx(5)
        assert engines.ended == ["b", "a"]

    run(main())


def test_no_call_is_made_in_the_context_of_a_request():
    request = ContextVar("request", default="none")
    seen = []

    class Noting(Replicas):
        async def remote(self, *args, replica):
            seen.append(request.get())
            return await super().remote(*args, replica=replica)

    async def main():
        request.set("the one that Ray knows its calls by")
        await each(Noting(a=1, b=2), "m", replicas="ab", timeout_s=5)

    run(main())
    assert seen == ["none", "none"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RayActorError(), GONE),
        (DeploymentUnavailableError.__new__(DeploymentUnavailableError), GONE),
        (ReplicaLeft("a"), GONE),
        (DependencyFailed("acme's secret is torn"), NoAnswer("it failed, and its log says why")),
        (ValueError("a bug"), NoAnswer("it failed, and its log says why")),
    ],
)
def test_one_that_raises_is_told_of_without_its_words(error, told):
    async def main():
        assert await each(Replicas(a=error, b="done"), "m", replicas="ab", timeout_s=5) == {"a": told, "b": "done"}

    run(main())


def test_whoever_gives_up_ends_all_calls():
    async def main():
        engines = Replicas(a=None, b=None)
        task = asyncio.create_task(each(engines, "m", replicas="ab", timeout_s=5))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        assert (task.cancelled(), sorted(engines.ended)) == (True, ["a", "b"])

    run(main())
