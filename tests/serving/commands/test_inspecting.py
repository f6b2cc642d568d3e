import pytest

from adapters.formats import native
from serving.registry.records import Quota
from tests.adapters import builders
from tests.serving import fakes


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder, profile=builders.profile("bert"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tone.safetensors"
    path.write_bytes(native.write(builders.package("bert", [builders.lora()], builders.HEADS["two_layers"])))
    return path


def rows(result):
    return dict(line.strip().split(maxsplit=1) for line in result.stdout.splitlines()[1:])


def test_a_package_is_looked_into_and_nothing_is_stored(hand, held, file):
    told = rows(hand.run("validate", file, "team/tone", "--input", "i love it"))
    assert told["kind"] == "adapter"
    assert told["methods"] == "lora"
    assert told["task"] == "text-classification (a, b, c)"
    assert told["modules"] == "1 matched (1 linear), 1 untouched"
    assert told["publish"] == "would make team/tone@1"
    assert told["tried"] == "5 tokens, moves the states by 25.00%"
    assert told["input"] == "i love it"
    assert hand.json("ls")["items"] == []
    assert hand.json("validate", file)["name"] == "dry-run"


def test_what_is_published_already_and_what_a_quota_refuses_is_said(hand, held, file):
    hand.run("push", file, "tone")
    assert rows(hand.run("validate", file, "tone"))["publish"] == "is tone@1 already"
    held.directory.quotas["default"] = Quota(adapters=1)
    result = hand.run("validate", file, "other")
    assert "a publish would be refused: 1 names and 1 more" in result.stderr
    assert rows(result)["quota"].startswith("names 1 + 1 of 1, bytes ")


def test_a_package_that_does_not_fit_is_an_error_with_its_reasons(hand, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(native.write(builders.package("roberta", [builders.lora()])))
    assert "roberta" in hand.run("validate", wrong, code=1).stderr
    hand.run("validate", tmp_path / "nothing", code=3)
