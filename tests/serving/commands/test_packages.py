import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from adapters.door import sources as door
from adapters.formats import native
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.peft import folder as peft
from adapters.manifest import PartSpec
from adapters.weights import Package
from tests.adapters import builders
from tests.serving import fakes
from tests.serving.hand import Hand

NOWHERE = Hand("http://127.0.0.1:1")


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder, profile=builders.profile("bert"))


@pytest.fixture
def package():
    return builders.package("bert", [builders.lora(bias=False)], builders.HEADS["two_layers"])


@pytest.fixture
def sources(tmp_path, package):
    (tmp_path / "tone.safetensors").write_bytes(native.write(package))
    adapterhub.write(package, tmp_path / "hub", name="tone")
    peft.write(builders.package("bert", [builders.lora(bias=False)]), tmp_path / "peft")
    return tmp_path


def pickled(folder):
    """The same AdapterHub folder as older releases save it."""
    for old, new in (
        ("adapter.safetensors", "pytorch_adapter.bin"),
        ("model_head.safetensors", "pytorch_model_head.bin"),
    ):
        torch.save(load_file(folder / old), folder / new)
        (folder / old).unlink()


def blobs(held):
    return sorted(path.read_bytes() for path in held.control.folder.iterdir())


def test_a_native_file_travels_byte_for_byte(hand, held, sources):
    result = hand.run("push", sources / "tone.safetensors", "team/tone", "--promote")
    assert "published team/tone@1" in result.stderr
    assert "prod moved to it" in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert blobs(held) == [(sources / "tone.safetensors").read_bytes()]
    assert "was published already: team/tone@1" in hand.run("push", sources / "tone.safetensors", "team/tone").stderr


@pytest.mark.parametrize(("folder", "method"), [("hub", "lora"), ("peft", "lora")])
def test_folders_of_both_libraries_become_native_packages(hand, held, sources, folder, method):
    answer = hand.json("push", sources / folder, "tone")
    (data,) = blobs(held)
    assert answer["digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
    assert native.read(data).manifest.method == method


def test_pickles_are_converted_here_and_only_safetensors_travel(hand, held, sources, package):
    pickled(sources / "hub")
    result = hand.run("push", sources / "hub", "tone")
    assert "converting" in result.stderr
    (data,) = blobs(held)
    found = native.read(data)
    assert found.tensors.keys() == package.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in package.tensors.items())
    assert not list((sources / "hub").glob("*.safetensors"))


def test_an_embedding_goes_where_embeddings_are(hand, sources):
    file = sources / "klingon.safetensors"
    file.write_bytes(native.write(builders.embedding_package("bert")))
    hand.run("push", file, "klingon")
    assert [item["name"] for item in hand.json("ls", "--embedding")["items"]] == ["default", "klingon"]
    assert hand.json("ls")["items"] == []
    hand.run("push", sources / "tone.safetensors", "tone", "--embedding", code=1)


def test_labels_are_given_where_a_folder_has_none(hand, sources):
    peft_with_head = builders.package("bert", [builders.lora(bias=False)], builders.HEADS["pooler"])
    peft.write(peft_with_head, sources / "headed")
    assert "LABEL_0" in hand.run("push", sources / "headed", "plain").stderr
    assert hand.json("show", "plain")["selected"]["labels"] == ["LABEL_0", "LABEL_1"]
    hand.run("push", sources / "headed", "named", "--labels", "bad, good")
    assert hand.json("show", "named")["selected"]["labels"] == ["bad", "good"]


def test_of_a_folder_of_several_tasks_one_is_taken(hand, held, sources):
    part = PartSpec("multitask_prompt", {"length": 2, "segments": False, "ranks": 1, "tasks": 3, "task": 0})
    peft.write(builders.package("bert", [part]), sources / "tasks")
    for command in (("push", sources / "tasks", "tone"), ("validate", sources / "tasks")):
        assert "task_id, from 0 to 2" in hand.run(*command, code=1).stderr
        hand.run(*command, "--task-id", 3, code=1)
    assert blobs(held) == []
    hand.run("push", sources / "tasks", "first", "--task-id", 0)
    hand.run("push", sources / "tasks", "last", "--task-id", 2)
    assert {native.read(data).manifest.parts[0].config["task"] for data in blobs(held)} == {0, 2}
    hand.run("validate", sources / "tasks", "--task-id", 1)
    backbone = ("--backbone", builders.folder("bert"))
    NOWHERE.run("convert", sources / "tasks", sources / "made.safetensors", "--task-id", 1, *backbone)
    assert native.read(sources / "made.safetensors").manifest.source["task_id"] == 1


def test_a_misfit_tells_every_reason_and_nothing_is_sent(hand, held, sources):
    config = json.loads((sources / "peft" / "adapter_config.json").read_text())
    (sources / "peft" / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True, "bias": "all"}))
    result = hand.run("push", sources / "peft", "tone", code=1)
    assert "error:" in result.stderr
    wrong = builders.package("roberta", [builders.lora(bias=False)])
    (sources / "wrong.safetensors").write_bytes(native.write(wrong))
    assert "roberta" in hand.run("push", sources / "wrong.safetensors", "tone", code=1).stderr
    hand.run("push", sources / "nothing", "tone", code=3)
    assert blobs(held) == []


@pytest.mark.parametrize("form", ["adapterhub", "peft", "native"])
def test_converting_there_and_back_keeps_every_tensor(sources, form):
    plain = builders.package("bert", [builders.lora(bias=False)])
    source = sources / "plain.safetensors"
    source.write_bytes(native.write(plain))
    backbone = ("--backbone", builders.folder("bert"))
    assert form in NOWHERE.run("convert", source, sources / "there", "--to", form, *backbone).stdout
    NOWHERE.run("convert", sources / "there", sources / "back.safetensors", *backbone)
    back = native.read(sources / "back.safetensors")
    assert back.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in plain.tensors.items())


def test_converting_overwrites_nothing_and_needs_a_backbone_or_a_service(sources):
    backbone = ("--backbone", builders.folder("bert"))
    NOWHERE.run("convert", sources / "hub", sources / "tone.safetensors", *backbone, code=4)
    assert "--backbone" in NOWHERE.run("convert", sources / "hub", sources / "new", code=5).stderr


def test_a_repository_of_the_hub_is_fetched_and_pushed(hand, sources, monkeypatch):
    asked = []

    def fetch(repository, *, revision, allow_patterns):
        asked.append((repository, revision, "*.safetensors" in allow_patterns))
        return str(sources / "hub")

    monkeypatch.setattr(door, "snapshot_download", fetch)
    pickled(sources / "hub")
    result = hand.run("push", "hf:org/tone@v2", "tone")
    assert "fetching org/tone@v2 from the hub" in result.stderr
    assert hand.json("show", "tone")["selected"]["method"] == "lora"
    NOWHERE.run("convert", "hf:org/tone", sources / "made.safetensors", "--backbone", builders.folder("bert"))
    assert asked == [("org/tone", "v2", True), ("org/tone", None, True)]


def test_a_hub_that_can_not_be_reached_is_told_with_the_remedy(hand, held, monkeypatch):
    def fetch(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(door, "snapshot_download", fetch)
    result = hand.run("push", "hf:org/tone", "tone", code=3)
    assert "hf:org/tone could not be fetched" in result.stderr
    assert "no route" in result.stderr
    assert "name the folder" in result.stderr
    hand.run("push", "org/tone", "tone", code=3)  # without hf: it is a folder, and never asked for
    assert blobs(held) == []


def test_each_command_offers_the_sources_that_it_takes(hand, saved_setup):
    assert "saved setup, native package" in hand.run("push", "--help").stdout
    told = hand.run("convert", "--help").stdout
    assert "of a saved setup, one of its folders" in " ".join(told.replace("│", " ").split())
    assert "whole setup" in hand.run("convert", saved_setup, saved_setup / "new", code=1).stderr


@pytest.fixture
def saved_setup(tmp_path):
    (tmp_path / "setup").mkdir()
    (tmp_path / "setup" / adapterhub.SETUP_CONFIG).write_text("{}")
    return tmp_path / "setup"


def with_tokenizer(package):
    raw = torch.frombuffer(bytearray(fakes.tokenizer_json()), dtype=torch.uint8)
    spec = replace(package.manifest.embedding, tokenizer=True)
    manifest = replace(package.manifest, embedding=spec)
    return Package(manifest, {**package.tensors, "embedding/tokenizer/bytes": raw})


def test_an_embedding_comes_back_as_a_folder_of_adapterhub_and_goes_in_again(hand, sources):
    package = with_tokenizer(builders.embedding_package("bert"))
    (sources / "klingon.safetensors").write_bytes(native.write(package))
    hand.run("push", sources / "klingon.safetensors", "klingon")
    hand.run("pull", "klingon", sources / "saved", "--embedding", "--format", "adapterhub")
    files = sorted(str(path.relative_to(sources / "saved")) for path in (sources / "saved").rglob("*.*"))
    tokenizer = ["tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"]
    assert files == ["embedding.pt", "embedding.safetensors", *tokenizer]
    (sources / "saved" / "embedding.safetensors").unlink()
    assert "converting" in hand.run("push", sources / "saved", "again").stderr
    hand.run("pull", "again", sources / "again.safetensors", "--embedding")
    found = native.read(sources / "again.safetensors")
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in package.tensors.items())


@pytest.mark.parametrize("form", ["adapterhub", "peft"])
def test_an_adapter_comes_back_in_the_layout_of_a_library(hand, sources, form):
    hand.run("push", sources / form.replace("adapterhub", "hub"), "tone")
    assert form in hand.run("pull", "tone", sources / "back", "--format", form).stdout
    assert hand.json("push", sources / "back", "again")["name"] == "again"
    hand.run("pull", "tone", sources / "back", "--format", form, code=4)
    hand.run("pull", "nothing", sources / "new", "--format", form, code=3)
    assert not (sources / "new").exists()
