import json
from dataclasses import asdict

from loadtests.compare import compare, read_report
from loadtests.report import make_report
from tests.loadtests.test_report import MANY, sample


def plain(settings, samples):
    return json.loads(json.dumps(asdict(make_report("zipf", settings, samples))))


def test_figures_stand_side_by_side_with_their_ratio():
    slow = [sample(i, due=i * 0.1, latency=(i + 1) / 500) for i in range(100)]
    lines = compare(plain({"seed": 1}, MANY), plain({"seed": 1}, slow))
    assert not any(line.startswith("setting") for line in lines)
    p99 = next(line for line in lines if line.startswith("all p99"))
    assert p99.split()[-1] == "2.00"
    assert next(line for line in lines if line.startswith("miss p50")).split()[-3:] == ["-", "-", "-"]


def test_settings_that_differ_are_told_first():
    lines = compare(plain({"seed": 1, "rate": 5}, MANY), plain({"seed": 2, "rate": 5}, MANY))
    assert lines[0] == "setting seed: 1 -> 2"
    assert not any("rate" in line and "setting" in line for line in lines)


def test_a_report_is_found_by_file_or_folder(tmp_path):
    path = make_report("zipf", {}, MANY).write(tmp_path, MANY)
    assert read_report(path) == read_report(tmp_path)
