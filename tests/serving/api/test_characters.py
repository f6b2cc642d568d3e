import dataclasses

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.tenancy.keys import SCOPES, Keyring, create_key
from serving.tenancy.store import KeyStore
from serving.tenancy.tenants import TenantStore
from tests.serving import fakes

CONTROLS = ["%00", "%01", "%0a", "%1f", "%7f", "%C2%80", "%C2%9F"]


@pytest.fixture
def http(tmp_path, url):
    """A service whose keys, tenants and audit are in a real database."""
    database = Database.open(url)
    admin = create_key(KeyStore(database), "acme", SCOPES, "root", by="cli")
    services = dataclasses.replace(
        fakes.make_fakes(tmp_path).services,
        keyring=Keyring(database, loopback_only=False),
        trail=Catalog(database),
        tenants=TenantStore(database),
    )
    headers = {"authorization": f"Bearer {admin.secret}"}
    with TestClient(build_app(services), base_url="http://127.0.0.1", headers=headers) as client:
        yield client
    database.close()


PATHS = [
    ("GET", "/v1/tenants/{}"),
    ("PUT", "/v1/tenants/a{}"),
    ("DELETE", "/v1/tenants/{}"),
    ("DELETE", "/v1/keys/{}"),
    ("POST", "/v1/keys/a{}b:rotate"),
    ("GET", "/v1/adapters/a{}"),
    ("PUT", "/v1/adapters/a/aliases/{}"),
]
FIELDS = [
    ("/v1/audit", "name"),
    ("/v1/audit", "tenant"),
    ("/v1/audit", "space"),
    ("/v1/audit", "action"),
    ("/v1/keys", "tenant"),
    ("/v1/adapters", "prefix"),
    ("/livez", "anything"),
]


def test_a_path_with_a_control_character_leads_nowhere(http):
    for character in CONTROLS:
        for method, path in PATHS:
            answer = http.request(method, path.format(character))
            told = (answer.status_code, answer.json()["code"])
            assert told == (404, "route_not_found"), (method, path, character)


def test_a_field_with_a_control_character_is_named(http):
    for character in ("%00", "%1b", "%7f", "%C2%80"):
        for path, field in FIELDS:
            answer = http.get(f"{path}?{field}=a{character}")
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value"), (path, field, character)
            (fault,) = answer.json()["errors"]
            assert fault["detail"] == f"query parameter '{field}': leave out its control characters"


def test_every_unclean_field_is_told_once_and_a_name_may_be_one(http):
    told = http.get("/v1/audit?name=%00&name=%01&%00=x&limit=1").json()["errors"]
    assert [fault["detail"].partition(":")[0] for fault in told] == [
        "query parameter 'name'",
        "query parameter '\\x00'",
    ]


def test_without_a_key_nobody_learns_which_paths_there_are(http):
    for path in ("/v1/tenants/%00", "/v1/audit?name=%00"):
        assert http.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401


def test_a_page_begins_where_a_database_can_count_to(http):
    for after, status in ((2**63 - 1, 200), (2**63, 422), ("9" * 20, 422), ("9" * 4000, 422)):
        answer = http.get("/v1/audit", params={"after": after})
        assert answer.status_code == status, answer.text


def test_other_characters_are_let_through(http):
    for text in ("plain", "größe", "line\nand\tline\r\n", "\u2028", "\ufffd", "%ff", ""):
        assert http.get("/v1/audit", params={"name": text}).status_code == 200
    assert http.get("/v1/audit?name=%ff&action=%E0%80").status_code == 200
