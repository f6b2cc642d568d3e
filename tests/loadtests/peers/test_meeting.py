import pytest

from loadtests.peers.contenders import PADDED, Contender
from loadtests.peers.meeting import Entrant, meet, turn_for


class Clocked:
    """A process whose passes take what it is told, and that writes down when it was asked."""

    def __init__(self, name, seconds, seen):
        self.name, self.seconds, self.seen = name, seconds, seen

    def ask(self, message):
        self.seen.append((self.name, message))
        return {"seconds": [9.0, self.seconds, self.seconds][: message["passes"]][-3:] or [self.seconds]}


def entrants(seen, *seconds):
    processes = [Clocked(f"p{i}", value, seen) for i, value in enumerate(seconds)]
    return [Entrant(Contender(process.name, PADDED, None, "fp32"), process) for process in processes]


@pytest.mark.parametrize(
    ("seconds", "passes", "warm"), [(1e-9, 20, True), (0.01, 15, True), (0.2, 1, True), (0.6, 1, False)]
)
def test_short_passes_are_repeated_and_warmed_up_and_long_ones_are_not(seconds, passes, warm):
    turn = turn_for(seconds)
    assert (turn.passes, turn.warm) == (passes, warm)


def test_the_order_turns_and_everyone_rests_between():
    seen, rests, told = [], [], []
    found = meet(entrants(seen, 0.1, 0.1, 0.1), 4, lambda: rests.append(len(seen)), told.append)
    assert [name for name, _ in seen] == [
        *("p0", "p1", "p2"),  # how long a turn has to be
        *("p0", "p1", "p2"),
        *("p1", "p2", "p0"),
        *("p2", "p0", "p1"),
        *("p0", "p1", "p2"),
    ]
    assert rests == list(range(1, 16))
    assert told == [f"round {number} of 4" for number in (1, 2, 3, 4)]
    assert {len(seconds) for seconds in found.values()} == {4}


def test_a_round_counts_the_median_pass_of_a_turn():
    seen = []
    (entrant,) = entrants(seen, 0.05)
    found = meet([entrant], 2, lambda: None, lambda _: None)
    assert [message["passes"] for _, message in seen] == [1, 1, 1]  # the first pass took 9 s: no repetition
    assert found[entrant.contender] == (9.0, 9.0)
    assert entrant.seconds(3, warm=True) == 0.05


def test_messages_name_the_run():
    seen = []
    (entrant,) = entrants(seen, 0.05)
    entrant.seconds(2, warm=False)
    assert seen == [("p0", {"do": "time", "run": [PADDED, None], "passes": 2, "warm": False})]
