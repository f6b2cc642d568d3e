import asyncio
import threading
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from loadtests.proofs.checker_socket import CheckerSocket, SocketChecks
from serving.errors import NotReady, Unprocessable
from serving.registry.records import MatrixJob
from tests.serving.registry.given import TrustingChecker, report_of


@pytest.fixture
def place(tmp_path):
    return tmp_path / "checker"


def asked(place, scenario):
    """What `scenario(checks)` returns while a checker answers."""

    async def run():
        socket = CheckerSocket(TrustingChecker(), place)
        try:
            return await asyncio.wait_for(scenario(SocketChecks(place)), 60)
        finally:
            socket.close()

    return asyncio.run(run())


def test_a_report_comes_back_as_the_checker_made_it(place, tmp_path):
    package = tmp_path / "package"
    package.write_bytes(b"a package")
    assert asked(place, lambda checks: checks.check(package)) == report_of(b"a package")


def test_a_refusal_is_raised_at_the_other_end(place, tmp_path):
    package = tmp_path / "package"
    package.write_bytes(b"bad bytes")
    with pytest.raises(Unprocessable, match="it is bad") as refused:
        asked(place, lambda checks: checks.check(package))
    assert refused.value.code == "does_not_fit"


def test_a_dry_run_and_a_build_reach_the_checker_too(place, tmp_path):
    package, made = tmp_path / "package", tmp_path / "made"
    package.write_bytes(b"a package")
    job = MatrixJob(package, False, None, None, 0, 10**6, "")

    async def scenario(checks):
        await checks.build(job, made)
        return await checks.inspect(package, "a text")

    assert asked(place, scenario).trial.input == "a text"
    assert made.read_bytes().startswith(b"embedding")


def test_many_ask_at_once_and_each_gets_its_own(place, tmp_path):
    packages = []
    for number in range(3):  # the checker of this test shares the threads of those who ask
        packages.append(tmp_path / str(number))
        packages[-1].write_bytes(b"package %d" % number)

    async def scenario(checks):
        return await asyncio.gather(*(checks.check(package) for package in packages))

    assert asked(place, scenario) == [report_of(package.read_bytes()) for package in packages]


def test_whoever_is_gone_before_the_answer_costs_nobody_else_anything(place, tmp_path):
    package = tmp_path / "package"
    package.write_bytes(b"a package")

    async def scenario(checks):
        for said in (False, True):  # before the question, and before the answer
            connection = Client(str(place), "AF_UNIX")
            if said:
                connection.send(("check", (package,)))
            connection.close()
        return await checks.check(package)

    assert asked(place, scenario) == report_of(b"a package")


def test_a_question_that_outlives_the_event_loop_ends_with_it(place, tmp_path):
    package = tmp_path / "package"
    package.write_bytes(b"a package")

    class Endless(TrustingChecker):
        async def check(self, path):
            reached.set()
            await asyncio.Event().wait()

    async def run():
        socket = CheckerSocket(Endless(), place)
        asking.start()
        await asyncio.to_thread(reached.wait)
        socket.close()

    def ask():
        with Client(str(place), "AF_UNIX") as connection:
            connection.send(("check", (package,)))
            with pytest.raises(EOFError):
                connection.recv()
        ended.set()

    reached, ended = threading.Event(), threading.Event()
    asking = threading.Thread(target=ask)
    asyncio.run(run())
    asking.join(60)
    assert ended.is_set()


def test_a_question_after_the_end_is_not_answered(place, tmp_path):
    async def run():
        socket = CheckerSocket(TrustingChecker(), place)
        socket.close()
        return socket._asked("check", (tmp_path / "package",))

    assert asyncio.run(run()) is None


def test_without_a_checker_nobody_waits(place):
    with pytest.raises(NotReady, match="the checker was lost"):
        asyncio.run(SocketChecks(place).check(Path("package")))
