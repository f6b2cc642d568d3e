"""The application over fakes, and clients of it."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from adapters.manifest import Manifest
from serving.api.app import build_app
from serving.registry.records import Published
from tests.serving.fakes import Fakes, make_fakes


@pytest.fixture
def fakes(tmp_path) -> Fakes:
    return make_fakes(tmp_path)


@pytest.fixture
def client(fakes) -> TestClient:
    return TestClient(build_app(fakes.services), base_url="http://127.0.0.1:8000")


@pytest.fixture
def publish(fakes) -> Callable[..., Published]:
    def put(name: str, manifest: Manifest | None = None, **options) -> Published:
        return asyncio.run(fakes.publish(name, manifest, **options))

    return put
