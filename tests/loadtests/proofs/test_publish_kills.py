"""The figures, the clients over HTTP, and the last look at a service that was killed."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from loadtests.proofs import publish_kills
from loadtests.proofs.fingerprints import Book, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.ledger import Ack, Ledger
from loadtests.proofs.publish_kills import QUICK, WHOLE, Kills, Served, Size, evidence, restart
from loadtests.proofs.publishing_process import TENANT, Work, name_of, package_at
from loadtests.proofs.stage import StageFailed
from tests.loadtests.proofs.fake_service import FakeService, asked, digest_of

SIZE = Size(2, 1, 3)
ACKS = [Ack(0, item, "killed/0", item + 1, f"sha256:{item}", True, 0) for item in range(3)]
STORED = {"killed/0": {ack.version: ack.digest for ack in ACKS}}


def broken(tmp_path, *, kills=None, acks=ACKS, stored=STORED, **served):
    found = Served(**{"exit_code": 0, **served})
    kills = kills or Kills(2, 1, outlived=len(acks))
    told = evidence(Given(tmp_path), SIZE, kills, acks, stored, found)
    return [figure.name for figure in told.broken]


def test_a_run_that_lost_nothing_holds(tmp_path):
    assert broken(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "figures"),
    [
        ({"kills": Kills(1, 1, outlived=3)}, ["kills of a publishing process"]),
        ({"kills": Kills(2, 0, outlived=3)}, ["kills of the whole service"]),
        ({"kills": Kills(2, 1, outlived=2)}, ["acknowledged after the last kill"]),
        ({"acks": ACKS[:2]}, ["acknowledged", "stored without being acknowledged in the end"]),
        ({"stored": {"killed/0": {1: "sha256:0", 2: "sha256:1"}}}, ["lost"]),
        ({"torn": 1}, ["torn"]),
        ({"strays": ("blobs: x is no blob",)}, ["torn"]),
        ({"acks": [*ACKS, replace(ACKS[0], version=2)]}, ["lost", "duplicate"]),
        ({"exit_code": 1}, ["exit code of the last stop"]),
    ],
    ids=["process", "service", "unkilled", "few", "lost", "torn", "stray", "twice", "exit"],
)
def test_everything_else_breaks_the_promise(tmp_path, changes, figures):
    assert broken(tmp_path, **changes) == figures


def test_a_version_that_answers_as_another_breaks_the_promise(tmp_path):
    served = Served(exit_code=0)
    served.faults["wrong: another package answered"] += 1
    assert broken(tmp_path, faults=served.faults) == ["not served after the restart"]


def test_a_refusal_that_no_client_should_get_breaks_the_promise(tmp_path):
    kills = Kills(2, 1, outlived=3)
    kills.refused["404 not_found"] += 1
    assert broken(tmp_path, kills=kills) == ["refused publishes"]


@pytest.mark.parametrize("size", [WHOLE, QUICK])
def test_clients_have_packages_for_more_lives_than_there_are(size):
    lives = size.process_kills + size.service_kills
    assert size.items * publish_kills.CLIENTS > 1.5 * lives * publish_kills.ACKS_A_LIFE
    assert size.items * publish_kills.CLIENTS > 1.5 * size.acknowledged


def test_the_whole_run_is_what_was_promised():
    assert (WHOLE.process_kills, WHOLE.service_kills, WHOLE.acknowledged) == (500, 20, 5000)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_start_that_fails_is_tried_again(failing):
    left = iter([StageFailed("too busy")] * failing)

    def start():
        if error := next(left, None):
            raise error

    assert restart(SimpleNamespace(start=start)) == failing


def test_a_service_that_does_not_start_at_all_ends_the_proof():
    def start():
        raise StageFailed("broken")

    with pytest.raises(StageFailed):
        restart(SimpleNamespace(start=start))


def test_the_last_kill_comes_after_the_last_acknowledgement_and_before_the_look(tmp_path):
    ledger, kills, done = Ledger(tmp_path / "ledger"), Kills(service=20), []
    for ack in ACKS:
        ledger.append(ack)
    stage = SimpleNamespace(kill=lambda: done.append("kill"), start=lambda: done.append("start"))
    publish_kills.kill_once_more(stage, ledger, kills)
    assert done == ["kill", "start"]
    assert (kills.service, kills.outlived, kills.failed_starts) == (21, len(ACKS), 0)


@pytest.fixture
def work(tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    for item in range(6):
        package_at(packages, 1, item).write_bytes(b"item %d" % item)
    return Work(tmp_path / "data", packages, tmp_path / "s", tmp_path / "ledger", 9, (), 6, 3)


def published(work, fake, start=0):
    """What one client over HTTP writes down."""
    ledger, kills = Ledger(work.ledger), Kills()

    async def scenario(session):
        await publish_kills._publish_all(session, work, ledger, kills, (1, start), asyncio.Event())

    asked(fake, scenario)
    return ledger.read(), kills


def test_a_client_goes_on_where_the_ledger_ends_and_writes_down_what_it_is_told(work):
    fake = FakeService(())
    acks, kills = published(work, fake, start=2)
    assert [(ack.client, ack.item, ack.name) for ack in acks] == [(1, n, name_of(1, n, 3)) for n in range(2, 6)]
    assert all(ack.digest == digest_of(b"item %d" % ack.item) and ack.created for ack in acks)
    assert (kills.waited, kills.refused) == ({}, {})


def test_what_was_there_already_is_written_down_as_found(work):
    fake = FakeService(())
    fake.publish(name_of(1, 0, 3), b"item 0", promote=False)
    acks, _ = published(work, fake)
    assert [ack.created for ack in acks] == [False, *[True] * 5]


def test_a_client_asks_again_until_it_is_answered(work, monkeypatch):
    monkeypatch.setattr(publish_kills, "RETRY_S", 0.0)
    fake, answers = FakeService(()), iter([(503, "not_ready"), (404, "not_found"), (500, "internal_error")])
    taken = fake.refusal

    def refusal(kind):
        fake.refused = {kind: told} if (told := next(answers, None)) else {}
        return taken(kind)

    fake.refusal = refusal
    acks, kills = published(work, fake)
    assert len(acks) == 6
    assert kills.waited == {"503 not_ready": 1, "500 internal_error": 1}
    assert kills.refused == {"404 not_found": 1}


def looked(forge, spoil=lambda data: data, lie=lambda logits: logits):
    """What the last look finds at a service with four versions of a name."""
    fake, book, digests = FakeService(forge.texts), Book(), {}
    for item in range(4):
        made = forge.make(f"looked-at-{item}")
        fake.logits[made.digest] = lie(made.logits)
        digests[made.digest] = Identity(TENANT, "0", item)
        book.enter(digests[made.digest], made.logits[:1])
        fake.publish("killed/0", made.data, promote=False)
    fake.spoil = spoil
    found = asked(fake, lambda session: publish_kills._look(SimpleNamespace(session=lambda: session), book, digests))
    assert found[0] == {"killed/0": {number + 1: digest for number, digest in enumerate(digests)}}
    return found[1]


def test_the_last_look_fetches_and_asks_every_version(forge):
    served = looked(forge)
    assert (served.torn, served.faults, len(served.seconds)) == (0, {}, 4)


def test_the_last_look_sees_bytes_and_answers_that_are_not_right(forge):
    assert looked(forge, spoil=lambda data: data[:-1]).torn == 4
    assert looked(forge, lie=lambda logits: logits + 1).faults == {"wrong: another package answered": 4}
