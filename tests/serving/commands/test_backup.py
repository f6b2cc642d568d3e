import json

from tests.serving.commands.storage import filled, path_of
from tests.serving.hand import Hand

NOWHERE = Hand("http://127.0.0.1:1")


def test_what_was_backed_up_is_restored_into_a_new_folder(tmp_path):
    digests = filled(tmp_path / "old", b"one", b"two")
    told = NOWHERE.run("backup", tmp_path / "backup", "--data", tmp_path / "old").stdout
    assert "2 blobs" in told
    made = NOWHERE.json("restore", tmp_path / "backup", "--data", tmp_path / "new")
    assert made["blobs"] == 2 and made["rows"]["versions"] == 2
    assert [path_of(tmp_path / "new", digest).read_bytes() for digest in digests] == [b"one", b"two"]
    assert NOWHERE.json("scrub", "--data", tmp_path / "new")["sound"]


def test_a_used_target_is_refused_and_stays_as_it_is(tmp_path):
    filled(tmp_path / "old", b"one")
    NOWHERE.run("backup", tmp_path / "backup", "--data", tmp_path / "old")
    (digest,) = filled(tmp_path / "mine", b"mine")
    for target in ("old", "mine"):
        assert "empty" in NOWHERE.run("restore", tmp_path / "backup", "--data", tmp_path / target, code=4).stderr
    assert path_of(tmp_path / "mine", digest).read_bytes() == b"mine"
    assert "empty" in NOWHERE.run("backup", tmp_path / "backup", "--data", tmp_path / "old", code=4).stderr


def test_damaged_blobs_are_named_and_the_exit_code_says_so(tmp_path):
    rotten, _ = filled(tmp_path / "old", b"one", b"two")
    path_of(tmp_path / "old", rotten).write_bytes(b"0ne")
    told = NOWHERE.run("backup", tmp_path / "backup", "--data", tmp_path / "old", code=1).stdout
    assert f"damaged  {rotten}" in told
    result = NOWHERE.run("backup", tmp_path / "second", "--data", tmp_path / "old", "--json", code=1)
    assert json.loads(result.stdout)["damaged"] == [rotten]


def test_what_is_no_backup_is_refused(tmp_path):
    assert "is no backup" in NOWHERE.run("restore", tmp_path, "--data", tmp_path / "new", code=1).stderr
    assert not (tmp_path / "new").exists()
