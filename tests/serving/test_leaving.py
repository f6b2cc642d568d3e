"""The end of a running service: gateways first, then engines, then the front and Serve, whatever fails on the way."""

import asyncio
import sys
import types
from dataclasses import replace

import pytest

from serving import leaving
from serving.config import ServiceSettings
from serving.leaving import ENGINES_S, leave
from serving.premises import Premises


@pytest.fixture
def settings(tmp_path):
    return ServiceSettings(backbone=tmp_path, data=tmp_path / "data", port=0, drain_s=7.0)


class World:
    """Ray and the replicas as `leave` sees them; `done` is what happened, in order."""

    def __init__(self, monkeypatch):
        self.done, self.told = [], {"Gateway": [("gw1", 0), ("gw2", 3)], "Engine": [("e1", True), ("e2", False)]}
        ray, serve = types.ModuleType("ray"), types.ModuleType("ray.serve")
        serve.shutdown_async, serve.delete = self.shutdown, lambda name: self.done.append(("delete", name))
        ray.serve = serve
        asking, routing = types.ModuleType("serving.asking"), types.ModuleType("serving.routing")
        asking.broadcast, routing.gateway_handle = self.broadcast, lambda deployment, application: deployment
        surroundings = types.ModuleType("serving.replicas.surroundings")
        surroundings.APPLICATION, surroundings.GATEWAY, surroundings.ENGINE = "chorus", "Gateway", "Engine"
        for module in (ray, serve, asking, routing, surroundings):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(leaving, "close_front", lambda *_: self.done.append("front"))

    async def broadcast(self, handle, method, seconds, *, timeout_s):
        assert timeout_s > seconds, "a replica has to be able to tell of it"
        self.done.append((handle, method, seconds))
        if isinstance(self.told[handle], Exception):
            raise self.told[handle]
        return self.told[handle]

    async def shutdown(self):
        self.done.append("shutdown")


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def end(settings):
    premises = Premises.open(settings.data)
    try:
        asyncio.run(leave(settings, premises))
    finally:
        premises.close()


DRAINS = [("Gateway", "drain", 7.0), ("Engine", "drain", ENGINES_S)]


def test_engines_are_told_once_no_gateway_sends_any_more_and_before_they_are_ended(settings, world):
    end(settings)
    assert world.done == [*DRAINS, "front", "shutdown"]


def test_in_a_cluster_of_others_only_the_application_is_ended(settings, world):
    end(replace(settings, ray_address="auto"))
    assert world.done == [*DRAINS, ("delete", "chorus")]


@pytest.mark.parametrize("deployment", ["Gateway", "Engine"])
def test_what_can_not_be_drained_is_ended_all_the_same(settings, world, deployment):
    world.told[deployment] = RuntimeError("Ray is away")
    end(settings)
    assert world.done[-2:] == ["front", "shutdown"]
