"""A stream that does its copies late tells whether a chunk was filled again before it was read."""

from contextlib import contextmanager

import pytest
import torch

from adapters.cache.staging import Staging


class Stream:
    """Keeps copies and marks until somebody waits, and does them in order then."""

    def __init__(self):
        self.due, self.current = [], False

    @contextmanager
    def on(self, stream):
        assert stream is self
        self.current = True
        yield
        self.current = False

    def run_to(self, mark):
        while mark in self.due:
            item = self.due.pop(0)
            if not isinstance(item, Mark):
                item()


class Mark:
    def __init__(self):
        self.stream = None

    def record(self, stream):
        self.stream = stream
        stream.due.append(self)

    def synchronize(self):
        if self.stream is not None:
            self.stream.run_to(self)


@pytest.fixture
def stream(monkeypatch):
    made, copy = Stream(), torch.Tensor.copy_

    def late(target, source, non_blocking=False):
        if not non_blocking:
            return copy(target, source)
        assert made.current
        made.due.append(lambda: copy(target, source))
        return target

    monkeypatch.setattr(torch.Tensor, "copy_", late)
    return made


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 64])
def test_what_is_sent_arrives_whole_and_converted(stream, length):
    staging = Staging([torch.empty(8, dtype=torch.bfloat16) for _ in range(2)], [Mark(), Mark()], stream, stream.on)
    source, target = torch.arange(length, dtype=torch.float32), torch.full((length,), -1, dtype=torch.bfloat16)
    staging.send(source, target)
    stream.run_to(staging._marks[(-(-length // 8) - 1) % 2])
    assert torch.equal(target.float(), torch.arange(length, dtype=torch.float32))


def test_one_is_sent_behind_another_and_the_sources_may_change_at_once(stream):
    staging = Staging([torch.empty(4) for _ in range(2)], [Mark(), Mark()], stream, stream.on)
    targets = [torch.zeros(10), torch.zeros(3), torch.zeros(6)]
    for number, target in enumerate(targets, 1):
        source = torch.full((len(target),), float(number))
        staging.send(source, target)
        source.fill_(-1)
    for mark in staging._marks:
        stream.run_to(mark)
    assert [set(target.tolist()) for target in targets] == [{1.0}, {2.0}, {3.0}]


def test_weights_that_require_grad_are_sent_without_it(stream):
    staging = Staging([torch.empty(4)], [Mark()], stream, stream.on)
    target = torch.zeros(4)
    staging.send(torch.ones(4, requires_grad=True), target)
    assert not target.requires_grad
