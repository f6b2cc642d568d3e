import asyncio
import json
import logging
import os
import sys

import pytest

from adapters.manifest import to_json
from serving.errors import NotReady, Unprocessable, UnsupportedMedia
from serving.registry.checker import Checker
from serving.registry.records import MatrixJob
from tests.serving.registry.given import PROFILE, digest_of, manifest_of

WORKER = """
import json, os, sys, time
hello = json.loads(sys.stdin.readline())
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    what = open(asked["path"] if "path" in asked else asked["build"]["tokenizer"]).read()
    if what == "die":
        os.kill(os.getpid(), 9)
    if what == "hang":
        time.sleep(600)
    if what == "last words":
        print(json.dumps({"error": "memory", "message": "too much memory", "reasons": []}), flush=True)
        break
    if what.startswith("bytes "):
        count, told = map(int, what.split()[1:])
        print(json.dumps({"nbytes": told}), flush=True)
        sys.stdout.buffer.write(b"\\n" * count)
        sys.stdout.buffer.flush()
        if count < told:
            os._exit(0)
        continue
    if what == "endless":
        what = "x" * (40 << 20)
    print(what.replace("PID", str(os.getpid())).replace("HELLO", str(hello["memory_bytes"])), flush=True)
"""
GOOD = {"digest": digest_of(b"x"), "nbytes": 1, "manifest": to_json(manifest_of("adapter")), "device_bytes": 2}
MANY = 5 << 20  # more than a pipe and a reader's buffer hold
REPORT = json.dumps(GOOD | {"warnings": ["pid PID", "memory HELLO"]})


def checker_of(script=WORKER, **options):
    return Checker(PROFILE, command=(sys.executable, "-c", script), **options)


@pytest.fixture
def file(tmp_path):
    def make(content):
        path = tmp_path / f"upload{len(list(tmp_path.iterdir()))}"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return make


def run(scenario, **options):
    async def with_checker():
        checker = checker_of(**options)
        try:
            return await scenario(checker)
        finally:
            await checker.stop()

    return asyncio.run(with_checker())


def pid_of(report):
    return int(report.warnings[0].removeprefix("pid "))


def test_a_report_arrives_whole_and_one_worker_serves_many(file):
    async def scenario(checker):
        await checker.start()
        return [await checker.check(file(REPORT)) for _ in range(3)]

    first, *others = run(scenario, memory_bytes=12345)
    assert (first.digest, first.nbytes, first.device_bytes) == (digest_of(b"x"), 1, 2)
    assert first.manifest == manifest_of("adapter")
    assert first.warnings[1] == "memory 12345"
    assert {pid_of(report) for report in others} == {pid_of(first)}


INSPECTED = {
    "parameters": 3,
    "matched": {"linear": ["query"]},
    "untouched": ["key"],
    "trial": {"input": "hi", "tokens": 3, "norm": 1.0, "change": 0.5, "answer": {"label": "a"}},
    "untried": "",
}


def test_an_inspection_arrives_whole(file):
    asked = json.dumps(GOOD | {"warnings": []} | INSPECTED)
    found = run(lambda checker: checker.inspect(file(asked), "hi"))
    assert (found.report.digest, found.parameters, found.matched) == (GOOD["digest"], 3, {"linear": ("query",)})
    assert (found.trial.change, found.trial.answer) == (0.5, {"label": "a"})
    none = json.dumps(GOOD | {"warnings": []} | INSPECTED | {"trial": None, "untried": "no"})
    assert run(lambda checker: checker.inspect(file(none), "hi")).trial is None


@pytest.mark.parametrize("part", [{"matched": []}, {"trial": {"input": "hi"}}, {"parameters": None, "trial": 3}])
def test_a_worker_that_tells_nonsense_of_an_inspection_is_replaced(file, part):
    asked = json.dumps(GOOD | {"warnings": []} | INSPECTED | part)
    with pytest.raises(Unprocessable, match="died on this file"):
        run(lambda checker: checker.inspect(file(asked), "hi"))


def test_a_dry_run_has_a_deadline_of_its_own(file):
    async def scenario(checker):
        await checker.start()
        with pytest.raises(Unprocessable, match=r"longer than 0\.06 s"):
            await checker.inspect(file("hang"), "hi")

    run(scenario, trial_s=0.06)


def test_every_reason_of_a_misfit_reaches_the_client(file):
    answer = {"error": "Misfit", "message": "a; b", "reasons": ["no tensor a", "wrong shape b"]}
    with pytest.raises(Unprocessable) as caught:
        run(lambda checker: checker.check(file(answer)))
    assert caught.value.code == "does_not_fit"
    assert [fault.detail for fault in caught.value.faults] == ["no tensor a", "wrong shape b"]


@pytest.mark.parametrize(
    ("kind", "refusal", "code"),
    [
        ("UnsafeFile", UnsupportedMedia, "unsafe_file"),
        ("InvalidPackage", Unprocessable, "invalid_package"),
        ("failed", Unprocessable, "check_failed"),
    ],
)
def test_other_refusals_keep_their_code_and_words(file, kind, refusal, code):
    with pytest.raises(refusal, match="because so") as caught:
        run(lambda checker: checker.check(file({"error": kind, "message": "because so", "reasons": []})))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "content", ["die", "no JSON", "[]", "{}", json.dumps(GOOD | {"manifest": "{}"}), "[" * 10**5, "endless"]
)
def test_a_file_on_which_the_worker_dies_or_raves_is_refused_and_the_next_one_checked(file, content):
    async def scenario(checker):
        before = await checker.check(file(REPORT))
        with pytest.raises(Unprocessable, match="died on this file"):
            await checker.check(file(content))
        return before, await checker.check(file(REPORT))

    before, after = run(scenario)
    assert pid_of(before) != pid_of(after)


def test_a_check_that_takes_too_long_is_killed(file):
    async def scenario(checker):
        before = await checker.check(file(REPORT))
        checker._deadline_s = 0.05
        with pytest.raises(Unprocessable, match=r"longer than 0\.05 s"):
            await checker.check(file("hang"))
        with pytest.raises(ProcessLookupError):
            os.kill(pid_of(before), 0)
        checker._deadline_s = 60
        assert pid_of(await checker.check(file(REPORT))) != pid_of(before)

    run(scenario)


def test_a_worker_that_died_in_between_accuses_nobody(file):
    async def scenario(checker):
        before = await checker.check(file(REPORT))
        os.kill(pid_of(before), 9)
        after = await checker.check(file(REPORT))
        assert pid_of(after) != pid_of(before)

    run(scenario)


def test_after_its_last_words_a_worker_gets_no_other_file(file):
    async def scenario(checker):
        with pytest.raises(Unprocessable, match="too much memory"):
            await checker.check(file("last words"))
        await checker.check(file(REPORT))

    run(scenario)


def test_a_cancelled_check_does_not_answer_the_next_one(file):
    async def scenario(checker):
        await checker.start()
        task = asyncio.create_task(checker.check(file("hang")))
        await asyncio.sleep(0)
        assert checker._turn.locked()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await checker.check(file(REPORT))).digest == GOOD["digest"]

    run(scenario)


def test_stopping_refuses_the_check_under_way(file):
    async def scenario(checker):
        await checker.start()
        task = asyncio.create_task(checker.check(file("hang")))
        await asyncio.sleep(0)
        assert checker._turn.locked()
        await checker.stop()
        with pytest.raises(NotReady):
            await task

    run(scenario)


def test_checks_at_once_get_their_own_answers(file):
    async def scenario(checker):
        digests = [digest_of(bytes([n])) for n in range(8)]
        paths = [file(json.dumps(GOOD | {"digest": digest, "warnings": []})) for digest in digests]
        reports = await asyncio.gather(*(checker.check(path) for path in paths))
        assert [report.digest for report in reports] == digests

    run(scenario)


@pytest.mark.parametrize(
    ("script", "start_s", "reason"),
    [("raise SystemExit(3)", 60.0, "it ended"), ("import time; time.sleep(600)", 0.2, "it said nothing for 0.2 s")],
)
def test_a_worker_that_does_not_start_is_not_ready(file, script, start_s, reason, caplog):
    with pytest.raises(NotReady) as caught, caplog.at_level(logging.ERROR, "chorus.registry"):
        run(lambda checker: checker.check(file(REPORT)), script=script, start_s=start_s)
    assert caught.value.code == "checker_unavailable"
    (line,) = [record for record in caplog.records if record.message == "the checker does not start"]
    assert reason in str(vars(line))


def test_the_worker_sees_nothing_of_the_services_environment(file, monkeypatch):
    monkeypatch.setenv("CHORUS_API_KEY", "secret")
    script = WORKER.replace("hello = json", "assert 'CHORUS_API_KEY' not in os.environ\nhello = json")
    assert run(lambda checker: checker.check(file(REPORT)), script=script).nbytes == 1


def job_of(file, content, max_bytes=MANY):
    return MatrixJob(file(content), True, None, None, 0, max_bytes, "default")


def test_bytes_behind_an_answer_are_written_whole_and_the_next_answer_is_read(file, tmp_path):
    async def scenario(checker):
        target = tmp_path / "target"
        await checker.build(job_of(file, f"bytes {MANY} {MANY}"), target)
        assert target.read_bytes() == b"\n" * MANY
        return await checker.check(file(REPORT))

    assert run(scenario).nbytes == 1


@pytest.mark.parametrize("content", ["die", "{}", '{"nbytes": "many"}', "bytes 5 10", f"bytes {MANY + 1} {MANY + 1}"])
def test_a_worker_that_breaks_off_or_tells_nonsense_builds_nothing_and_is_replaced(file, tmp_path, content):
    async def scenario(checker):
        before = await checker.check(file(REPORT))
        with pytest.raises(Unprocessable, match="died on this file"):
            await checker.build(job_of(file, content), tmp_path / "target")
        return before, await checker.check(file(REPORT))

    before, after = run(scenario)
    assert pid_of(before) != pid_of(after)


def test_a_refused_job_keeps_its_reasons(file, tmp_path):
    answer = json.dumps({"error": "Misfit", "message": "a; b", "reasons": ["a", "b"]})
    with pytest.raises(Unprocessable) as caught:
        run(lambda checker: checker.build(job_of(file, answer), tmp_path / "target"))
    assert [fault.detail for fault in caught.value.faults] == ["a", "b"]


def test_a_full_disk_is_not_ready_and_the_rest_of_the_bytes_is_nobodys(file, tmp_path):
    async def scenario(checker):
        before = await checker.check(file(REPORT))
        with pytest.raises(NotReady) as caught:
            await checker.build(job_of(file, f"bytes {MANY} {MANY}"), tmp_path)  # a folder can not be written
        assert caught.value.code == "storage_unavailable"
        return before, await checker.check(file(REPORT))

    before, after = run(scenario)
    assert pid_of(before) != pid_of(after)
