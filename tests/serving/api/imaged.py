"""The application over fakes, with a backbone of images: 8 x 12 pixels, seven tokens a row."""

import asyncio
from base64 import b64encode
from dataclasses import replace

from starlette.testclient import TestClient

from adapters.manifest import Requires
from serving.api.app import build_app
from serving.config import Limits
from tests.serving.fakes import Fakes, make_fakes
from tests.serving.samples import PROFILE, adapter_manifest, head_spec

GEOMETRY = replace(
    PROFILE.geometry,
    model_type="vit",
    vocabulary=0,
    max_tokens=7,
    type_vocabulary=0,
    pad_token_id=-1,
    channels=3,
    image_height=8,
    image_width=12,
)
LABELS = ("cat", "dog", "bee")


def served(folder, **limits) -> tuple[Fakes, TestClient]:
    """The fakes and a client; the adapter `pets` is published."""
    fakes = make_fakes(folder, limits=Limits(**limits), profile=replace(PROFILE, geometry=GEOMETRY))
    manifest = replace(adapter_manifest(head_spec(LABELS)), requires=Requires("vit", 8, 2, 2, None))
    asyncio.run(fakes.publish("pets", manifest))
    return fakes, TestClient(build_app(fakes.services), base_url="http://127.0.0.1:8000")


def base64(data: bytes) -> str:
    return b64encode(data).decode()
