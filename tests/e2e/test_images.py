"""A tiny ViT served for real: images in base64 and as uploads, of two adapters in one crowd, equal what Python computes."""

import asyncio
import json
import subprocess
import sys
import zlib
from base64 import b64encode
from pathlib import Path

import httpx2
import pytest
import torch
from transformers import ViTConfig, ViTImageProcessor, ViTModel
from transformers.image_utils import load_image

from adapters.architectures.profile import read_profile
from adapters.formats import native
from adapters.manifest import HeadSpec, Manifest, PartSpec, Requires
from adapters.methods.fold import expected
from adapters.methods.presets import SEQ_BN
from adapters.model import AdapterModel
from adapters.weights import Package
from tests.adapters.builders import sites
from tests.e2e.service import ROOT, Service, free_port, maps_torch
from tests.serving.images.samples import drawn, saved
from tests.serving.images.test_decoding import chunk, png

pytestmark = pytest.mark.ray

OCTETS = {"content-type": "application/octet-stream"}
LABELS = {"pets": ("cat", "dog", "bee"), "tones": ("dark", "bright")}
PARTS = {
    "pets": PartSpec("lora", {"sites": sites(("attn_q", "attn_v"), rank=3, scaling=1.7)}),
    "tones": PartSpec("bottleneck", {**SEQ_BN, "sites": sites(("ffn_junction",), width=4)}),
}
FILES = [saved(drawn(20 + 7 * i, 33 - 2 * i, seed=i), kind) for i, kind in enumerate(("PNG", "JPEG", "WEBP", "PNG"))]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "tiny-vit"
    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    ViTModel(ViTConfig(**sizes, image_size=24, patch_size=8, initializer_range=0.3)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 24, "width": 24}, resample=3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def packages(backbone, tmp_path_factory):
    """Two adapters of two methods, each with a head of its own, as native files."""
    folder, profile, made = tmp_path_factory.mktemp("packages"), read_profile(backbone), {}
    for seed, (name, labels) in enumerate(LABELS.items()):
        head = HeadSpec("classification", 2, "tanh", True, "first_token", labels, "single_label", name=name)
        manifest = Manifest("adapter", Requires("vit", 32, 2, 4), (PARTS[name],), head)
        generator = torch.Generator().manual_seed(seed)
        shapes = expected(manifest, profile).items()
        tensors = {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes}
        made[name] = folder / f"{name}.safetensors"
        made[name].write_bytes(native.write(Package(manifest, tensors)))
    return made


@pytest.fixture(scope="module")
def service(backbone, tmp_path_factory, packages):
    running = Service(backbone, tmp_path_factory.mktemp("served") / "data", engines=1, gateways=2, port=free_port())
    try:
        running.start()
        with running.client() as client:
            for name, path in packages.items():
                told = client.put(f"/v1/adapters/{name}", content=path.read_bytes(), headers=OCTETS)
                assert told.status_code == 201, told.text
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="module")
def alone(backbone, packages, tmp_path_factory):
    """Logits of every adapter and file, by `AdapterModel` and transformers' own image processor."""
    model, processor = AdapterModel.from_pretrained(backbone), ViTImageProcessor.from_pretrained(backbone)
    pictures = tmp_path_factory.mktemp("pictures")
    found = {}
    for name, path in packages.items():
        model.load_adapter(path, load_as=name)
        for i, data in enumerate(FILES):
            (pictures / str(i)).write_bytes(data)
            pixels = processor(load_image(str(pictures / str(i))), return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                found[name, i] = model(pixel_values=pixels, adapter_names=name).logits[0].tolist()
    return found


def raw(name, **members):
    return {"adapters": name, "parameters": {"function_to_apply": "none", "top_k": None}, **members}


def image(i):
    return {"image": b64encode(FILES[i]).decode()}


def logits(name, output) -> list[float]:
    assert [item["label"] for item in output] == list(LABELS[name])
    return [item["score"] for item in output]


def test_a_crowd_of_both_adapters_in_both_forms_is_what_python_computes(service, alone):
    async def crowd():
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as client:
            keys = [*alone] * 6
            in_json = [client.post("/v1/predict", json=raw(name, inputs=[image(i)])) for name, i in keys]
            uploads = [
                client.post(
                    f"/v1/predict?adapters={name}&function_to_apply=none",
                    content=FILES[i],
                    headers={"content-type": "image/png"},
                )
                for name, i in keys
            ]
            return keys, await asyncio.gather(*in_json), await asyncio.gather(*uploads)

    keys, in_json, uploads = asyncio.run(crowd())
    for (name, i), one, other in zip(keys, in_json, uploads, strict=True):
        assert (one.status_code, other.status_code) == (200, 200), one.text + other.text
        assert logits(name, one.json()["outputs"][0]) == pytest.approx(alone[name, i], abs=1e-5)
        best = {item["label"]: item["score"] for item in other.json()["outputs"][0]}
        assert [best[label] for label in LABELS[name]] == pytest.approx(alone[name, i], abs=1e-5)


def test_many_images_in_one_request_and_both_adapters_on_each(service, alone):
    ask = raw({"parallel": ["pets", "tones"]}, inputs=[image(i) for i in range(len(FILES))])
    with service.client() as client:
        told = client.post("/v1/predict", json=ask).json()
    assert told["usage"]["prompt_tokens"] == len(FILES) * 2 * 10
    for i, branches in enumerate(told["outputs"]):
        for branch in branches:
            assert logits(branch["head"], branch["output"]) == pytest.approx(alone[branch["head"], i], abs=1e-5)


def test_hostile_images_are_refused_and_the_service_goes_on(service):
    frames = [drawn(seed=seed) for seed in range(3)]
    hostile = {
        "bomb": (png(100_000, 100_000, chunk(b"IDAT", zlib.compress(bytes(1000)))), 413, "image_too_large"),
        "huge webp": (saved(drawn(16_000, 3000), "WEBP", quality=1, method=0), 413, "image_too_large"),
        "truncated": (FILES[1][:300], 422, "unreadable_image"),
        "wrong type": (b"%PDF-1.7", 422, "unreadable_image"),
        "animated": (saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), 422, "animated_image"),
        "too many bytes": (FILES[0] + bytes(10 << 20), 413, None),
    }
    with service.client() as client:
        for name, (data, status, code) in hostile.items():
            told = client.post("/v1/predict?adapters=pets", content=data, headers={"content-type": "image/png"})
            assert (told.status_code, code or told.json()["code"]) == (status, told.json()["code"]), name
            assert told.json()["detail"], name
        remote = client.post("/v1/predict", json=raw("pets", inputs={"image": f"{service.url}/cat.png"}))
        assert (remote.status_code, remote.json()["code"]) == (422, "remote_image")
        text = client.post("/v1/predict", json=raw("pets", inputs="i love it"))
        assert (text.status_code, text.json()["errors"][0]["pointer"]) == (422, "/inputs")
        assert client.post("/v1/predict", json=raw("pets", inputs=image(0))).status_code == 200


def test_gateways_hold_neither_torch_nor_pillow(service):
    gateways = service.pids("Gateway")
    assert len(gateways) == 2
    for pid in gateways:
        assert not maps_torch(pid)
        assert "_imaging" not in Path(f"/proc/{pid}/maps").read_text()


def test_the_command_line_validates_gates_and_predicts(service, packages, alone, tmp_path):
    def chorus(*words):
        command = [sys.executable, "-m", "serving.cli", "--url", service.url, *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    path = tmp_path / "cat.jpg"
    path.write_bytes(FILES[1])
    told = json.loads(chorus("predict", "-a", "pets", "--image", path, "--function", "none", "--json"))
    scores = {item["label"]: item["score"] for item in told["outputs"][0]}
    assert [scores[label] for label in LABELS["pets"]] == pytest.approx(alone["pets", 1], abs=1e-5)
    assert "cat.jpg" in chorus("predict", "-a", "pets", "--image", path)
    tried = json.loads(chorus("validate", packages["pets"], "--json"))
    assert tried["trial"]["input"] == "a drawn image"
    assert tried["trial"]["answer"]["label"] in LABELS["pets"]
    with service.client() as client:
        for gate in (True, {"input": image(0)}):
            moved = client.put("/v1/adapters/pets/aliases/prod", json={"version": 1, "gate": gate})
            assert moved.status_code == 200, moved.text
        closed = client.put("/v1/adapters/pets/aliases/prod", json={"version": 1, "gate": {"input": "a text"}})
        assert (closed.status_code, closed.json()["code"]) == (424, "gate_failed")
        assert client.get("/v1/adapters/pets").json()["aliases"]["prod"]
    chorus("doctor")
