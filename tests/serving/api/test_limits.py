import dataclasses
from typing import get_args

from starlette.testclient import TestClient

from adapters.architectures.profile import BackboneProfile
from serving.api.app import build_app
from serving.api.schemas import TaskName
from serving.config import Limits
from serving.tasks.table import IMAGE_TASKS, TASKS
from tests.serving.fakes import make_fakes
from tests.serving.samples import PROFILE


def test_limits_are_those_that_bind_and_name_the_backbone(client):
    told = client.get("/v1/limits").json()
    assert told["max_inputs"] == Limits().max_inputs
    assert told["tasks"] == list(TASKS)
    assert set(get_args(TaskName)) == {*TASKS, *IMAGE_TASKS}
    assert BackboneProfile.from_json(told["profile"]) == PROFILE


def test_max_tokens_is_the_smaller_of_setting_and_backbone(tmp_path):
    def told(limit: int, positions: int) -> int:
        geometry = dataclasses.replace(PROFILE.geometry, max_tokens=positions)
        profile = dataclasses.replace(PROFILE, geometry=geometry)
        fakes = make_fakes(tmp_path, limits=Limits(max_tokens=limit), profile=profile)
        return TestClient(build_app(fakes.services), base_url="http://localhost").get("/v1/limits").json()["max_tokens"]

    assert told(512, 128) == 128
    assert told(64, 128) == 64


def test_every_limit_of_the_settings_is_told(client):
    assert {item.name for item in dataclasses.fields(Limits)} < set(client.get("/v1/limits").json())


def test_the_limits_of_a_composition_and_of_a_body_are_told(client):
    told = client.get("/v1/limits").json()
    assert (told["max_adapters"], told["max_nesting"], told["max_depth"]) == (32, 4, 32)


def test_an_administrator_may_ask_as_well(fakes, client):
    key = fakes.keyring.add("acme", "admin").secret
    assert client.get("/v1/limits", headers={"authorization": f"Bearer {key}"}).status_code == 200
