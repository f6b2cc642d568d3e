import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from adapters.formats import native
from tests.adapters import builders
from tests.serving.hand import Hand

NOWHERE = Hand("http://127.0.0.1:1")
WORDS = ["[UNK]", "good", "bad", "film", "day"]


@pytest.fixture
def backbone(tmp_path):
    folder = tmp_path / "bert-tiny"
    folder.mkdir()
    for path in builders.folder("bert").iterdir():
        (folder / path.name).symlink_to(path)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "tone.tsv"
    path.write_text("good film\tPOS\nbad film\tNEG\ngood day\tPOS\nbad day\tNEG\n" * 3)
    return path


def arguments(backbone, examples, out, **changes):
    options = {"backbone": backbone, "data": examples, "method": "lora", "task": "classification", "out": out} | changes
    return ["train", "--epochs", 1, *(item for name, value in options.items() for item in (f"--{name}", value))]


def test_training_writes_a_package_and_tells_its_score(backbone, examples, tmp_path):
    out = tmp_path / "made" / "tone.safetensors"
    told = NOWHERE.json(*arguments(backbone, examples, out))
    assert (told["labels"], told["trained_on"], told["held_out"]) == (["NEG", "POS"], 10, 2)
    assert 0 <= told["score"] <= 1
    assert told["digest"] == native.digest(out)
    assert native.read(out).manifest.method == "lora"


def test_the_score_is_a_line_and_an_existing_file_stays(backbone, examples, tmp_path):
    out = tmp_path / "tone.safetensors"
    result = NOWHERE.run(*arguments(backbone, examples, out), "--held-out", 0)
    assert "trained on 12, nothing held out" in result.stdout
    data = out.read_bytes()
    NOWHERE.run(*arguments(backbone, examples, out), code=4)
    assert out.read_bytes() == data


def test_the_score_is_measured_on_a_file_of_its_own_beside_one_answer_for_all(backbone, examples, tmp_path):
    held_out = tmp_path / "held-out.tsv"
    held_out.write_text("good\tPOS\nbad\tNEG\nbad bad\tNEG\nbad good\tNEG\n")
    result = NOWHERE.run(*arguments(backbone, examples, tmp_path / "tone.safetensors"), "--held-out-data", held_out)
    assert "trained on 12, accuracy " in result.stdout
    assert "on 4 held out (one answer for all: 0.750)" in result.stdout


@pytest.mark.parametrize(("changes", "code"), [({"method": "magic"}, 1), ({"task": "magic"}, 2), ({"data": "gone"}, 3)])
def test_what_can_not_be_trained_is_an_error(backbone, examples, tmp_path, changes, code):
    out = tmp_path / "tone.safetensors"
    NOWHERE.run(*arguments(backbone, examples, out, **changes), code=code)
    assert not out.exists()
