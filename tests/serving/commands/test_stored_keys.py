import asyncio

import pytest

from serving.commands.stored_keys import StoredKeys, any_key, open_store
from serving.registry.database import Database
from serving.tenancy.keys import Keyring
from tests.serving.hand import Hand

NOWHERE = Hand("http://127.0.0.1:1")


def caller(data, secret):
    async def ask():
        database = Database.open(f"sqlite:///{data / 'registry.sqlite'}")
        try:
            return await Keyring(database, loopback_only=False).authenticate(secret)
        finally:
            database.close()

    return asyncio.run(ask())


def test_the_first_key_is_made_without_http_and_opens_the_service(tmp_path):
    data = tmp_path / "data"
    assert not any_key(data, "")
    result = NOWHERE.run("key", "create", "--data", data, "--tenant", "acme", "--scopes", "predict, publish")
    secret = result.stdout.strip()
    assert secret not in result.stderr
    found = caller(data, secret)
    assert (found.tenant, found.scopes) == ("acme", {"predict", "publish"})
    assert any_key(data, "")


def test_keys_in_a_data_folder_are_listed_and_revoked_by_tenant(tmp_path):
    data = tmp_path / "data"
    made = NOWHERE.json("key", "create", "--data", data, "--scopes", "operate", "--label", "me")
    (listed,) = NOWHERE.json("key", "ls", "--data", data)["items"]
    assert listed == {name: value for name, value in made.items() if name != "secret"}
    assert NOWHERE.json("key", "ls", "--data", data, "--tenant", "acme")["items"] == []
    NOWHERE.run("key", "revoke", made["key_id"], "--data", data, "--tenant", "acme", code=3)
    NOWHERE.run("key", "revoke", made["key_id"], "--data", data)
    assert "revoked" in NOWHERE.run("key", "ls", "--data", data).stdout
    assert not any_key(data, "")


@pytest.mark.parametrize("wrong", [("--scopes", "root"), ("--scopes", ""), ("--tenant", "A B")])
def test_a_wrong_key_is_not_made(tmp_path, wrong):
    NOWHERE.run("key", "create", "--data", tmp_path, *wrong, code=1)
    assert not any_key(tmp_path, "")


def test_a_key_in_a_data_folder_can_be_rotated(tmp_path):
    with open_store(tmp_path, "") as store:
        keys = StoredKeys(store, "acme")
        old = keys.create(["predict"], "shop", expires_in_s=3600.0)
        new = keys.rotate(old["key_id"], 0.0)
        assert new["scopes"] == ["predict"]
        assert old["expires"] is not None
        assert any_key(tmp_path, "")
        keys.revoke(new["key_id"])
    assert not any_key(tmp_path, "")
