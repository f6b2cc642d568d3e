import pytest

from tests.serving import fakes

TOKENIZER = fakes.tokenizer_json()


@pytest.fixture
def tokenizer(tmp_path):
    folder = tmp_path / "saved" / "tokenizer"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(TOKENIZER)
    return folder


def test_add_makes_an_embedding_and_activates_it(hand, held, tokenizer):
    result = hand.run("embedding", "add", "klingon", "--tokenizer", tokenizer, "--seed", 5, "--reference", "default")
    assert "published klingon@1" in result.stderr
    assert "and is active" in result.stderr
    (extension,) = held.control.extensions
    assert (extension.tokenizer, extension.copy, extension.seed) == (TOKENIZER, True, 5)
    assert hand.run("embedding", "active").stdout == "klingon\n"


@pytest.mark.parametrize("where", ["file", "folder", "parent"])
def test_a_tokenizer_is_a_file_or_in_a_folder(hand, held, tokenizer, where):
    path = {"file": tokenizer / "tokenizer.json", "folder": tokenizer, "parent": tokenizer.parent}[where]
    answer = hand.json("embedding", "add", "klingon", "--tokenizer", path, "--no-activate")
    assert answer["created"]
    assert held.control.extensions[0].tokenizer == TOKENIZER
    assert hand.run("embedding", "active").stdout == "default\n"


def test_a_reference_and_its_tokenizer_are_sent(hand, held, tokenizer):
    hand.run("embedding", "add", "klingon", "--tokenizer", tokenizer)
    hand.run(
        *("embedding", "add", "vulcan", "--tokenizer", tokenizer),
        *("--reference", "klingon@1", "--reference-tokenizer", tokenizer),
    )
    extension = held.control.extensions[-1]
    assert (extension.reference.version.ref.name, extension.reference_tokenizer) == ("klingon", TOKENIZER)


def test_what_can_not_be_added_says_why(hand, held, tokenizer, tmp_path):
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    for path, code in ((tmp_path, 3), (tmp_path / "nothing", 3), (tmp_path / "latin", 2)):
        hand.run("embedding", "add", "klingon", "--tokenizer", path, code=code)
    hand.run("embedding", "add", "klingon", "--tokenizer", tokenizer, "--reference-tokenizer", tokenizer, code=1)
    hand.run("embedding", "add", "klingon", "--tokenizer", tokenizer, "--reference", "nothing", code=3)
    assert held.control.extensions == []
    hand.run("embedding", "add", "klingon", "--tokenizer", tokenizer)
    hand.run("embedding", "add", "klingon", "--tokenizer", tokenizer, code=4)


def test_active_chooses_and_rm_gives_way_to_default(hand, tokenizer):
    for name in ("klingon", "vulcan"):
        hand.run("embedding", "add", name, "--tokenizer", tokenizer)
    assert hand.run("embedding", "active", "klingon").stdout == "active token embedding: klingon\n"
    lines = hand.run("embedding", "ls").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["default", "-"], ["klingon", "*"], ["vulcan", "1"]]
    assert hand.run("embedding", "rm", "klingon").stdout == "retired klingon\n"
    assert hand.json("embedding", "ls")["active"] == "default"
    hand.run("embedding", "rm", "default", code=4)
    hand.run("embedding", "active", "klingon", code=3)
