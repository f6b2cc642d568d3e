import pytest

from loadtests.client.connection import Place
from loadtests.served.target import BadTarget, Target, place_of, read_keys


def test_a_url_is_a_place():
    assert place_of("http://127.0.0.1:8000/") == Place("127.0.0.1", 8000)
    assert place_of("https://chorus.example/api/") == Place("chorus.example", 443, tls=True, prefix="/api")
    assert Target(place_of("https://h:9/x"), (), 0.1).url == "https://h:9/x"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://h", "http://", "http://h:port"])
def test_what_is_no_url_is_told(url):
    with pytest.raises(BadTarget, match="--url"):
        place_of(url)


def test_without_a_file_there_is_one_tenant_without_a_key():
    assert read_keys(None, ("default",)) == ({"default": ""}, "")
    with pytest.raises(BadTarget, match="--key-file with a line `NAME KEY`"):
        read_keys(None, ("a", "b"))


def test_a_file_holds_one_key_or_one_of_each_tenant(tmp_path):
    path = tmp_path / "keys"
    path.write_text("ck_1\n")
    assert read_keys(path, ("default",)) == ({"default": "ck_1"}, "ck_1")
    path.write_text("a ck_1\nb ck_2\nmetrics ck_3\n")
    keys, watcher = read_keys(path, ("a", "b"))
    assert (keys["a"], keys["b"], watcher) == ("ck_1", "ck_2", "ck_3")
    with pytest.raises(BadTarget, match="no key for c"):
        read_keys(path, ("a", "c"))


def test_files_that_can_not_be_used_are_told(tmp_path):
    with pytest.raises(BadTarget, match="No such file"):
        read_keys(tmp_path / "none", ("default",))
    path = tmp_path / "keys"
    path.write_text("one two three\n")
    with pytest.raises(BadTarget, match="write one key alone"):
        read_keys(path, ("default",))
