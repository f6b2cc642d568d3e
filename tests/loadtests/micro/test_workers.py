import pytest

from loadtests.micro import workers
from tests.loadtests.conftest import TINY


def test_both_ways_compute_all_batches_and_are_compared(capsys):
    code = workers.main(["--backbone", str(TINY), "--rows", "2", "--batches", "4", "--rounds", "2"])
    told = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [line.split("  ")[0] for line in told[:2]] == [workers.ONE, workers.MANY]
    assert told[2].startswith(f"{workers.MANY} / {workers.ONE}: ")
    assert float(told[2].rsplit(" ", 1)[1]) > 0


def test_batches_that_can_not_be_shared_are_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        workers.main(["--threads", "2", "--batches", "3"])
    assert stopped.value.code == 2
    assert "can not be shared by 2" in capsys.readouterr().err


class Pipe:
    def __init__(self, asked):
        self.asked, self.sent = iter(asked), []

    def recv(self):
        return next(self.asked)

    def send(self, value):
        self.sent.append(value)


def test_a_worker_answers_each_order_until_the_last():
    pipe = Pipe([2, 1, 0])
    workers.serve(pipe, workers.Job(TINY, "lora", 1, "float32", 0), 1)
    assert pipe.sent == [None, None, None]
