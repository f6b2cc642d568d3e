import pytest

from loadtests.proofs.ledger import Ack, Ledger, judge, starts


def ack(item=0, version=1, *, client=0, name="killed/1", digest=None, created=True, life=0):
    return Ack(client, item, name, version, digest or f"sha256:{client}-{item}", created, life)


def test_a_line_reads_back_and_another_one_is_refused():
    one = ack(3, 7, client=2, created=False, life=11)
    assert Ack.read(one.line().decode()) == one
    with pytest.raises(ValueError):
        Ack.read("half a line")


def test_several_writers_append_to_one_file_and_each_counts_all_lines(tmp_path):
    first, second = Ledger(tmp_path / "ledger"), Ledger(tmp_path / "ledger")
    first.append(ack(0))
    assert (len(first), len(second)) == (1, 1)
    second.append(ack(1))
    first.append(ack(2))
    assert (len(first), len(second)) == (3, 3)
    assert [one.item for one in first.read()] == [0, 1, 2]
    first.close()
    second.close()


def test_every_client_goes_on_with_its_first_package_that_was_not_acknowledged():
    acks = [ack(0), ack(1), ack(0, client=2)]
    assert starts(acks, 3) == (2, 0, 1)


def stored_of(*acks):
    stored = {}
    for one in acks:
        stored.setdefault(one.name, {})[one.version] = one.digest
    return stored


def test_a_registry_that_holds_what_was_acknowledged_is_sound():
    acks = [ack(0, 1), ack(1, 2), ack(0, 1, client=1, name="killed/2")]
    verdict = judge(acks, stored_of(*acks))
    assert set(vars(verdict).values()) == {0}


@pytest.mark.parametrize(
    ("stored", "lost"),
    [({}, 2), ({"killed/1": {1: "sha256:0-0"}}, 1), ({"killed/1": {1: "sha256:0-0", 2: "sha256:other"}}, 1)],
    ids=["everything", "one", "other-bytes"],
)
def test_what_the_registry_lacks_or_holds_otherwise_is_lost(stored, lost):
    assert judge([ack(0, 1), ack(1, 2)], stored).lost == lost


def test_the_same_bytes_under_two_numbers_are_doubled():
    verdict = judge([ack(0, 1)], {"killed/1": {1: "sha256:0-0", 2: "sha256:0-0"}})
    assert (verdict.doubled, verdict.unasked, verdict.lost) == (1, 1, 0)


def test_two_acknowledgements_that_contradict_each_other_are_counted():
    again = [ack(0, 1), ack(0, 2)]
    assert judge(again, stored_of(*again)).numbered_twice == 1
    shared = [ack(0, 1), ack(1, 1)]
    verdict = judge(shared, stored_of(*shared))
    assert (verdict.numbered_twice, verdict.lost) == (1, 1)


def test_what_nobody_was_told_of_counts_only_once_everyone_is_done():
    stored = {"killed/1": {1: "sha256:0-0", 2: "sha256:0-1"}}
    assert judge([ack(0, 1)], stored).unasked == 1
    assert judge([ack(0, 1)], stored, settled=False).unasked == 0


def test_a_number_that_was_left_out_is_a_gap():
    acks = [ack(0, 1), ack(1, 3)]
    assert judge(acks, stored_of(*acks)).gaps == 1
