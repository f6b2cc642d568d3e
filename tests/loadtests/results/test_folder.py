import json

import pytest

from loadtests.results.folder import PUBLISHES, REQUESTS, RUN, NoRun, append, read, write
from tests.loadtests.fake import phased_run, plain_run, steady, sweep_run


@pytest.mark.parametrize("run", [plain_run(), phased_run(), sweep_run(rounds=2)], ids=["plain", "phased", "sweep"])
def test_a_run_reads_back_as_it_was(run, tmp_path):
    write(tmp_path, run)
    assert read(tmp_path) == run
    assert read(tmp_path / RUN) == run


def test_every_request_is_a_line(tmp_path):
    run = phased_run()
    append(tmp_path, run.takes[0], steady(5, 2))
    append(tmp_path, run.takes[0], steady(5, 2))
    lines = [json.loads(line) for line in (tmp_path / REQUESTS).read_text().splitlines()]
    assert len(lines) == 20
    wanted = {"step", "round", "intended", "sent", "done", "status", "verdict", "tenant", "adapter", "tiers"}
    assert wanted <= lines[0].keys()
    assert len((tmp_path / PUBLISHES).read_text().splitlines()) == 2 * len(run.takes[0].published)


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(NoRun, match=r"run\.json: No such file"):
        read(tmp_path)
    (tmp_path / RUN).write_text("{")
    with pytest.raises(NoRun, match="it is no run"):
        read(tmp_path)
    (tmp_path / RUN).write_text('{"format": "chorus-load/0"}')
    with pytest.raises(NoRun, match="this version reads 'chorus-load/1'"):
        read(tmp_path)
    (tmp_path / RUN).write_text('{"format": "chorus-load/1"}')
    with pytest.raises(NoRun, match="it is no run"):
        read(tmp_path)
