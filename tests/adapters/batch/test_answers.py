import pytest
import torch

from adapters.batch import answers
from adapters.batch.answers import answers_of, mark

NOWHERE = torch.device("meta")


class Event:
    """A mark of a device that gets past it when it is waited for: then `arrives` is called."""

    def __init__(self, at_ms, arrives=lambda: None):
        self.at_ms, self.arrives = at_ms, arrives

    def synchronize(self):
        self.arrives()

    def elapsed_time(self, later):
        return later.at_ms - self.at_ms


def test_shares_of_the_host_have_arrived_as_float32_in_their_order():
    shares = [torch.ones(2, 3, dtype=torch.bfloat16), torch.arange(4.0)]
    begun = answers_of(shares, mark(torch.device("cpu")))
    found = begun.wait()
    assert [share.dtype for share in found] == [torch.float32] * 2
    assert all(torch.equal(own, due.float()) for own, due in zip(found, shares, strict=True))
    assert begun.seconds is None
    assert answers_of([], None).wait() == []


def test_shares_of_a_device_cross_as_one_and_hold_what_came_once_it_arrived(monkeypatch):
    crossed, told = torch.zeros(9), []

    def arrives():
        told.append("asked")
        crossed.copy_(torch.arange(9.0))

    def crossing(flat):
        assert flat.shape == (9,)
        assert flat.dtype == torch.float32
        return crossed, Event(30.0, arrives)

    monkeypatch.setattr(answers, "_crossing", crossing)
    shares = [torch.zeros(2, 2, device=NOWHERE, dtype=torch.bfloat16), torch.zeros((), device=NOWHERE)]
    begun = answers_of([*shares, torch.zeros(4, 1, device=NOWHERE)], Event(5.0))
    assert (told, begun.seconds) == ([], None)
    square, one, column = begun.wait()
    assert (told, begun.seconds) == (["asked"], 0.025)
    assert square.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert one.item() == 4.0
    assert column.tolist() == [[5.0], [6.0], [7.0], [8.0]]


def test_what_befell_the_device_is_raised_by_who_waits(monkeypatch):
    def broken():
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(answers, "_crossing", lambda flat: (torch.zeros(1), Event(1.0, broken)))
    begun = answers_of([torch.zeros(1, device=NOWHERE)], Event(0.0))
    with pytest.raises(RuntimeError, match="illegal memory"):
        begun.wait()
