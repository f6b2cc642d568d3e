"""A method and a family that the repository lacks: one file and one table line each, as the README shows, and served."""

import json
import re
import shutil

import pytest
import torch
from transformers import CamembertConfig, CamembertModel

from adapters.architectures.families import architecture_of
from adapters.errors import UnknownArchitecture
from adapters.formats import native
from adapters.manifest import Manifest, PartSpec
from adapters.methods.table import METHODS
from adapters.requires import Requires
from adapters.weights import Package
from tests.e2e.service import ROOT, Service, free_port
from tests.serving.samples import tokenizer_json

pytestmark = pytest.mark.ray

HIDDEN, LAYERS = 32, 2
METHOD, FAMILY = "adapters/methods/shift.py", "adapters/architectures/camembert.py"
TABLES = {  # file -> (the import, the line of the table before which the new one goes, and the new line)
    "adapters/methods/table.py": ("from adapters.methods.shift import SHIFT", "    VERA,", "    SHIFT,"),
    "adapters/architectures/families.py": (
        "from adapters.architectures.camembert import CAMEMBERT",
        "FAMILIES = (",
        None,
    ),
}


def blocks() -> dict[str, str]:
    """The Python blocks of the README that name their file."""
    text = (ROOT / "README.md").read_text()
    return dict(re.findall(r"^`([a-z_/]+\.py)`\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def extended_copy(target):
    """A copy of the packages with both extensions."""
    for package in ("adapters", "serving"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (METHOD, FAMILY):
        assert not (ROOT / name).exists()
        (target / name).write_text(blocks()[name])
    for name, (statement, before, line) in TABLES.items():
        table = (target / name).read_text()
        assert table.count(before) == 1
        replaced = f"{line}\n{before}" if line else f"{before}CAMEMBERT, "
        table = table.replace(before, replaced)
        first = re.search(r"^from adapters", table, re.MULTILINE).start()
        (target / name).write_text(f"{table[:first]}{statement}\n{table[first:]}")
    return target


def backbone(folder):
    torch.manual_seed(3)
    config = CamembertConfig(
        vocab_size=64,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=48,
        type_vocab_size=1,
        pad_token_id=1,
        initializer_range=0.3,
    )
    CamembertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    return folder


def package(method: str, config, tensors) -> bytes:
    manifest = Manifest("adapter", Requires("camembert", HIDDEN, LAYERS, 4), (PartSpec(method, config),))
    return native.write(Package(manifest, tensors))


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")
    root = extended_copy(folder / "copy")
    running = Service(
        backbone(folder / "tiny-camembert"), folder / "data", engines=1, gateways=1, port=free_port(), root=root
    )
    try:
        running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def features(client, adapters):
    answer = client.post(
        "/v1/predict", json={"inputs": "i love it", "adapters": adapters, "task": "feature-extraction"}
    )
    assert answer.status_code == 200, answer.text
    return torch.tensor(answer.json()["outputs"][0])


def test_without_the_extension_neither_is_known():
    assert "shift" not in METHODS
    with pytest.raises(UnknownArchitecture):
        architecture_of("camembert")


def test_both_are_served_and_stack_with_what_was_there_before(service):
    generator = torch.Generator().manual_seed(1)
    vector = torch.randn(HIDDEN, generator=generator)
    sites = {f"{layer}/attn_q": {"rank": 2, "scaling": 1.0, "bias": False} for layer in range(LAYERS)}
    shapes = {"lora_A": (2, HIDDEN), "lora_B": (HIDDEN, 2)}
    lora = {
        f"{site}/{name}": torch.randn(shape, generator=generator) for site in sites for name, shape in shapes.items()
    }
    made = {
        "last": package("shift", {"layers": [LAYERS - 1]}, {f"{LAYERS - 1}/layer_out/vector": vector}),
        "lora": package("lora", {"sites": sites}, lora),
    }
    with service.client() as client:
        for name, data in made.items():
            published = client.put(
                f"/v1/adapters/{name}", content=data, headers={"content-type": "application/octet-stream"}
            )
            assert published.status_code == 201, published.text
        bare, under = features(client, []), features(client, ["lora"])
        assert torch.allclose(features(client, ["last"]), bare + vector, atol=1e-5)
        assert torch.allclose(features(client, ["lora", "last"]), under + vector, atol=1e-5)
        assert not torch.allclose(bare, under, atol=1e-2)
        shown = client.get("/v1/adapters/last").json()["selected"]
    assert shown["method"] == "shift"
    assert shown["requires"]["model_type"] == "camembert"


def test_a_wrong_configuration_of_the_new_method_is_refused_with_its_reason(service):
    with service.client() as client:
        bad = package("shift", {"layers": [7]}, {"7/layer_out/vector": torch.zeros(HIDDEN)})
        refused = client.put("/v1/adapters/bad", content=bad, headers={"content-type": "application/octet-stream"})
    assert refused.status_code == 422
    assert "shift: layers" in json.dumps(refused.json())
