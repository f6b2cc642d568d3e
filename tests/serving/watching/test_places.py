import os

import pytest

from serving.watching.places import MAX_FILES, Place, Stray, Unfit, look, signature, size


@pytest.fixture
def put(tmp_path):
    def write(where, content="x"):
        path = tmp_path / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return write


def places(root):
    return {item.where: (item.tenant, item.name) for item in look(root) if isinstance(item, Place)}


def strays(root):
    return {item.where: item.reason for item in look(root) if isinstance(item, Stray)}


def test_what_a_place_is_called(tmp_path, put):
    put("acme/tone/adapter_config.json")
    put("acme/mood.safetensors")
    put("acme/team/tone/adapter_config.json")
    put("acme/team/tone.v2.safetensors")
    put("acme/klingon/embedding.safetensors")
    put("acme/klingon/tokenizer/tokenizer.json")
    put("public/public/mood/head_config.json")
    assert places(tmp_path) == {
        "acme/tone": ("acme", "tone"),
        "acme/mood.safetensors": ("acme", "mood"),
        "acme/team/tone": ("acme", "team/tone"),
        "acme/team/tone.v2.safetensors": ("acme", "team/tone.v2"),
        "acme/klingon": ("acme", "klingon"),
        "public/public/mood": ("public", "public/mood"),
    }
    assert strays(tmp_path) == {}


def test_what_is_hidden_or_unfinished_is_not_looked_at(tmp_path, put):
    put("acme/.tone/adapter_config.json")
    put("acme/tone.part/adapter_config.json")
    put("acme/mood.safetensors.tmp")
    put(".git/config")
    put("acme/tone.tmp/adapter_config.json")
    assert list(look(tmp_path)) == []


@pytest.mark.parametrize(
    ("where", "stray", "reason"),
    [
        ("tone.safetensors", "tone.safetensors", "outside of any tenant's folder"),
        ("Acme/tone.safetensors", "Acme", "no tenant's name"),
        ("acme/Tone/adapter_config.json", "acme/Tone", "is not a name"),
        ("acme/base/adapter_config.json", "acme/base", "reserved"),
        ("acme/README.md", "acme/README.md", "put a folder here"),
        ("acme/team/deep/tone/adapter_config.json", "acme/team/deep", "holds no adapter_config.json"),
        ("acme/team/aliases/adapter_config.json", "acme/team/aliases", "reserved"),
    ],
)
def test_what_can_be_nothing_says_why(tmp_path, put, where, stray, reason):
    put(where)
    (found,) = strays(tmp_path).items()
    assert found[0] == stray
    assert reason in found[1]
    assert places(tmp_path) == {}


def test_links_are_followed_nowhere(tmp_path, put):
    put("elsewhere/adapter_config.json")
    watched = tmp_path / "watched"
    (watched / "acme").mkdir(parents=True)
    (watched / "acme" / "tone").symlink_to(tmp_path / "elsewhere")
    (watched / "acme" / "mood.safetensors").symlink_to(tmp_path / "elsewhere" / "adapter_config.json")
    (watched / "other").symlink_to(tmp_path / "elsewhere")
    assert places(watched) == {}
    assert set(strays(watched)) == {"acme/tone", "acme/mood.safetensors", "other"}
    inside = put("watched/acme/real/adapter_config.json").parent
    (inside / "weights.safetensors").symlink_to(tmp_path / "elsewhere" / "adapter_config.json")
    with pytest.raises(Unfit, match="is a link"):
        signature(inside)


def test_a_signature_changes_with_every_file_and_with_nothing_else(tmp_path, put):
    put("tone/tokenizer/tokenizer.json", "{}")
    config = put("tone/adapter_config.json", "{}")
    tone = tmp_path / "tone"
    seen = [signature(tone)]
    assert signature(tone) == seen[0]
    config.write_text("{ }")
    seen.append(signature(tone))
    os.utime(config, ns=(1, 1))
    seen.append(signature(tone))
    put("tone/tokenizer/more", "x")
    seen.append(signature(tone))
    (tone / "tokenizer" / "more").rename(tone / "tokenizer" / "other")
    seen.append(signature(tone))
    assert len(set(seen)) == len(seen)
    assert size(tone) == 2 + 3 + 1


def test_a_place_has_so_many_files_and_lies_so_deep(tmp_path, put):
    for number in range(MAX_FILES + 1):
        put(f"many/{number}")
    with pytest.raises(Unfit, match="more than 1000 files"):
        signature(tmp_path / "many")
    put("deep/1/2/3/4/5/6/7")
    with pytest.raises(Unfit, match="deep"):
        signature(tmp_path / "deep")


def test_what_vanishes_meanwhile_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        signature(tmp_path / "gone")
