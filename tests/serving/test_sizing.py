import os

import pytest

from serving.config import CacheSettings, ServiceSettings
from serving.sizing import PROCESS_BYTES, SHARE, Machine, sized, weights_bytes

GIB = 1 << 30
ROOM = 1 << 40
CACHE = CacheSettings(GIB, GIB, GIB)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(1 << 20))
    (tmp_path / "config.json").write_bytes(bytes(1 << 10))
    return lambda **given: ServiceSettings(
        **{"backbone": tmp_path, "data": tmp_path, "engines": 0, "cache": CACHE} | given
    )


def chosen(settings, cores, free=ROOM):
    found, why = sized(settings, Machine(cores, free))
    assert why
    return found.engines, found.threads


@pytest.mark.parametrize(
    ("cores", "gateways", "due"),
    [(1, 1, (1, 1)), (2, 1, (1, 2)), (2, 2, (1, 2)), (3, 1, (2, 1)), (8, 1, (7, 1)), (8, 2, (6, 1)), (64, 4, (60, 1))],
)
def test_engines_of_one_thread_take_the_cores_that_gateways_leave_and_a_lone_one_takes_all(
    settings, cores, gateways, due
):
    assert chosen(settings(gateways=gateways), cores) == due


def test_memory_bounds_the_engines_and_those_that_fit_share_the_cores(settings):
    each = 2 * (1 << 20) + 2 * GIB + PROCESS_BYTES
    assert chosen(settings(), 9, int(4 * each / SHARE) + 8) == (4, 2)
    assert chosen(settings(), 9, int(4 * each / SHARE) - 8) == (3, 2)
    assert chosen(settings(), 9, 0) == (1, 9)


def test_what_is_given_stays_and_the_rest_follows_from_it(settings):
    given = settings(engines=3, threads=0)
    assert sized(given, Machine(8, ROOM)) == (given, "as given")
    assert chosen(settings(threads=2), 9) == (4, 2)
    assert chosen(settings(threads=16), 4) == (1, 16)


@pytest.mark.parametrize("apart", [{"device": "cuda"}, {"ray_address": "auto"}])
def test_beside_a_gpu_and_on_others_machines_there_is_one(settings, apart):
    assert chosen(settings(**apart), 16) == (1, 0)


def test_only_weights_count_as_weights(settings):
    assert weights_bytes(settings().backbone) == 1 << 20


def test_the_limits_of_a_container_are_heeded(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:  4000 kB\nHugePages_Total:  0\n")
    own = len(os.sched_getaffinity(0))
    assert Machine.here(meminfo, tmp_path) == Machine(own, 4000 * 1024)
    for name, text in (("cpu.max", "100000 100000"), ("memory.max", "3000"), ("memory.current", "1000")):
        (tmp_path / name).write_text(text)
    assert Machine.here(meminfo, tmp_path) == Machine(1, 2000)
    for name, text in (("cpu.max", "max 100000"), ("memory.max", "max")):
        (tmp_path / name).write_text(text)
    assert Machine.here(meminfo, tmp_path) == Machine(own, 4000 * 1024)
    assert Machine.here().free_bytes > 0
