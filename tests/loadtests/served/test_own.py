from contextlib import contextmanager
from subprocess import TimeoutExpired

import pytest

from loadtests.proofs.stage import StageFailed
from loadtests.scenarios.values import Tenant
from loadtests.served import own as module
from loadtests.served.own import Own, Rooms, room_of, started


class FakeStage:
    """What `started` needs of a stage."""

    def __init__(self, backbone, data, engines, gateways, options, key):
        self.told = (backbone, data, engines, gateways, options, key)
        self.url = "http://127.0.0.1:4321"
        self.ends = []

    def stop(self):
        self.ends.append("stop")


@pytest.fixture
def stages(monkeypatch):
    made = []

    @contextmanager
    def staged(stage):
        made.append(stage)
        try:
            yield stage
        finally:
            stage.ends.append("gone")

    monkeypatch.setattr(module, "Stage", FakeStage)
    monkeypatch.setattr(module, "staged", staged)
    monkeypatch.setattr(module, "make_keys", lambda data, wanted: {name: f"ck_{name}" for name in wanted})
    return made


def test_room_for_adapters_is_bytes_of_the_tiers():
    assert room_of(None, 10.0) is None
    assert 1000 <= room_of(100, 10.0) < 1100
    assert Rooms(5, None).options == ("--device-cache", "5B")
    assert Rooms().options == ()


def test_it_is_started_as_asked_with_a_key_for_each_tenant(stages, tmp_path):
    own = Own(tmp_path, "bfloat16", 2, 3, 1, ("--drain", "1"))
    with started(own, Rooms(host=7), (Tenant("a"), Tenant("b")), tmp_path / "data", 0.1) as (target, stage):
        assert [(tenant.name, tenant.key) for tenant in target.tenants] == [("a", "ck_a"), ("b", "ck_b")]
        assert (target.watcher, target.tolerance, target.url) == ("ck_watcher", 0.1, stage.url)
    backbone, data, engines, gateways, options, key = stage.told
    assert (backbone, data, engines, gateways, key) == (tmp_path, tmp_path / "data", 2, 3, "ck_watcher")
    assert options == ("--threads", "1", "--dtype", "bfloat16", "--host-cache", "7B", "--drain", "1")
    assert stage.ends == ["stop", "gone"]


def test_one_that_does_not_end_by_itself_is_ended(stages, tmp_path, monkeypatch):
    def hangs(_):
        raise TimeoutExpired("chorus", 60)

    monkeypatch.setattr(FakeStage, "stop", hangs)
    with started(Own(tmp_path), Rooms(), (Tenant("a"),), tmp_path, 0.1):
        pass
    assert stages[0].ends == ["gone"]


def test_a_failed_run_leaves_nothing_behind(stages, tmp_path):
    with pytest.raises(StageFailed), started(Own(tmp_path), Rooms(), (Tenant("a"),), tmp_path, 0.1):
        raise StageFailed("no")
    assert stages[0].ends == ["stop", "gone"]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupted_run_ends_its_service_in_good_order(stages, tmp_path, end):
    with pytest.raises(end), started(Own(tmp_path), Rooms(), (Tenant("a"),), tmp_path / "data", 0.1):
        raise end
    assert stages[0].ends == ["stop", "gone"]


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ((), "cpu"),
        (("--device", "cuda"), "cuda"),
        (("--drain", "1", "--device=cuda"), "cuda"),
        (("--device", "cpu"), "cpu"),
    ],
)
def test_the_device_is_what_the_options_say(options, device, tmp_path):
    assert Own(tmp_path, options=options).device == device
