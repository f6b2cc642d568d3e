from tests.serving.commands.storage import filled, path_of
from tests.serving.hand import Hand

NOWHERE = Hand("http://127.0.0.1:1")


def test_a_sound_store_is_sound(tmp_path):
    filled(tmp_path, b"one", b"three")
    assert "read 2 blobs (8 B): none wrong" in NOWHERE.run("scrub", "--data", tmp_path).stdout
    found = NOWHERE.json("scrub", "--data", tmp_path, "--rate", "1GiB")
    assert found["sound"] and found["examined"] == 2


def test_what_is_wrong_is_named_and_the_exit_code_says_so(tmp_path):
    rotten, lost, _ = filled(tmp_path, b"one", b"two", b"good")
    path_of(tmp_path, rotten).write_bytes(b"0ne")
    path_of(tmp_path, lost).unlink()
    told = NOWHERE.run("scrub", "--data", tmp_path, code=1).stdout
    assert f"rotten  {rotten}" in told and f"lost  {lost}" in told and "read 3 blobs" in told and "2 wrong" in told
    path_of(tmp_path, rotten).write_bytes(b"one")
    path_of(tmp_path, lost).write_bytes(b"two")
    assert f"lifted  {rotten}" in NOWHERE.run("scrub", "--data", tmp_path).stdout


def test_a_wrong_rate_is_an_error(tmp_path):
    filled(tmp_path)
    assert "is not a size" in NOWHERE.run("scrub", "--data", tmp_path, "--rate", "fast", code=1).stderr
