import asyncio

import pytest

from loadtests.proofs.callers import TENANT_SCOPES, make_keys
from serving.commands.stored_keys import StoredKeys, open_store
from serving.config import ServiceSettings
from serving.errors import Unprocessable
from serving.registry.database import Database
from serving.tenancy.keys import SCOPES, Keyring


def callers(data, secrets):
    """Whom a service on this data folder takes the holders of these secrets for."""
    settings = ServiceSettings(backbone=data, data=data)
    database = Database.open(settings.sql_url)
    try:
        ring = Keyring(database, loopback_only=False)

        async def authenticated():
            return [await ring.authenticate(secret) for secret in secrets]

        return asyncio.run(authenticated())
    finally:
        database.close()


def test_a_service_that_starts_on_the_folder_knows_every_key_by_its_tenant_and_scopes(tmp_path):
    made = make_keys(tmp_path, {"amber": TENANT_SCOPES, "office": ("admin",)})
    assert [*made] == ["amber", "office"]
    found = callers(tmp_path, made.values())
    assert [(caller.tenant, caller.scopes) for caller in found] == [
        ("amber", frozenset(TENANT_SCOPES)),
        ("office", {"admin"}),
    ]


def test_keys_are_made_in_the_database_that_is_given_and_nowhere_else(tmp_path):
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    make_keys(tmp_path / "data", {"amber": ("predict",)}, url)
    with open_store(tmp_path / "data", url) as store:
        assert len(StoredKeys(store, "amber").list()) == 1
    with open_store(tmp_path / "data", "") as store:
        assert StoredKeys(store, "amber").list() == []


def test_a_tenant_gets_one_key_with_its_name_in_the_label(tmp_path):
    make_keys(tmp_path, {"amber": ("predict",), "birch": ("predict",)})
    with open_store(tmp_path, "") as store:
        assert [key["label"] for key in StoredKeys(store, "amber").list()] == ["proof of amber"]


def test_the_scopes_of_a_tenant_are_all_but_those_of_who_runs_the_service():
    assert set(TENANT_SCOPES) == SCOPES - {"admin", "metrics"}


def test_a_scope_that_is_none_is_refused(tmp_path):
    with pytest.raises(Unprocessable):
        make_keys(tmp_path, {"amber": ("rule",)})
