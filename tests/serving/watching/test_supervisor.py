import json
import os
import sys
import time

import pytest

from serving.config import Limits, ServiceSettings
from serving.errors import NotFound
from serving.watching.supervisor import AGAIN_S, Watcher, told, understood

ECHO = "import sys; open(sys.argv[1], 'a').write(sys.stdin.readline()); sys.stdin.read()"
DIES = "import sys; open(sys.argv[1], 'a').write('x')"


@pytest.fixture
def settings(tmp_path):
    folder = tmp_path / "watched"
    folder.mkdir()
    return ServiceSettings(tmp_path / "backbone", tmp_path, watch=folder, limits=Limits(max_package_bytes=99))


@pytest.fixture
def watcher(settings, tmp_path):
    made = []

    def start(script, now=lambda: 0.0):
        made.append(Watcher(settings, command=(sys.executable, "-c", script, str(tmp_path / "out")), clock=now))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def wait_for(path, count):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.is_file() and len(path.read_text()) >= count:
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(f"nothing came to {path}")


def test_what_the_process_is_told_is_what_it_understands(settings):
    heard = understood(json.loads(json.dumps(told(settings))))
    assert (heard.watch, heard.data, heard.backbone) == (settings.watch, settings.data, settings.backbone)
    assert (heard.sql_url, heard.limits.max_package_bytes) == (settings.sql_url, 99)


def test_it_is_told_over_its_standard_input_and_ends_when_that_closes(watcher, tmp_path, settings):
    one = watcher(ECHO)
    assert one.check() == ("the watching process does not run",)
    one.tend()
    assert json.loads(wait_for(tmp_path / "out", 2)) == told(settings)
    assert one.check() == ()
    process = one._process
    assert os.getsid(process.pid) == process.pid, "a signal to the group of the service is not for it"
    one.stop()
    assert process.returncode == 0
    one.stop()


def test_a_process_that_ended_is_started_again_but_not_at_once(watcher, tmp_path):
    now = [0.0]
    one = watcher(DIES, lambda: now[0])
    one.tend()
    wait_for(tmp_path / "out", 1)
    one._process.wait(30)
    one.tend()
    assert one.check() != ()
    now[0] = AGAIN_S
    one.tend()
    assert wait_for(tmp_path / "out", 2) == "xx"


def test_one_process_is_enough(watcher, tmp_path):
    now = [0.0]
    one = watcher(ECHO, lambda: now[0])
    one.tend()
    first = one._process
    now[0] += 100
    one.tend()
    assert one._process is first


def test_a_folder_that_is_not_there_is_told_at_the_start(tmp_path):
    for watch in (None, tmp_path / "nothing"):
        with pytest.raises(NotFound, match="to watch"):
            Watcher(ServiceSettings(tmp_path, tmp_path, watch=watch))
