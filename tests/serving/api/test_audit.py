import pytest


@pytest.fixture
def header(fakes):
    def of(tenant: str, *scopes: str) -> dict[str, str]:
        return {"authorization": f"Bearer {fakes.keyring.add(tenant, *scopes).secret}"}

    return of


@pytest.fixture
def history(publish):
    publish("a")
    publish("b")
    publish("a", tenant="acme")
    publish("a", promote=True)


def rows(answer):
    assert answer.status_code == 200, answer.text
    return [(row["tenant"], row["name"], row["action"]) for row in answer.json()["items"]]


def test_rows_come_newest_first_and_are_the_callers_own(history, client):
    answer = client.get("/v1/audit")
    assert {tenant for tenant, _, _ in rows(answer)} == {"default"}
    sequence = [row["sequence"] for row in answer.json()["items"]]
    assert sequence == sorted(sequence, reverse=True)
    assert answer.json()["next"] is None


def test_pages_follow_each_other_without_a_gap(history, client):
    whole = client.get("/v1/audit").json()["items"]
    pages, after = [], 0
    while after is not None:
        page = client.get("/v1/audit", params={"limit": 1, "after": after}).json()
        pages += page["items"]
        after = page["next"]
    assert pages == whole
    assert len(whole) > 1


def test_a_filter_keeps_what_was_asked_for(history, client):
    assert {name for _, name, _ in rows(client.get("/v1/audit", params={"name": "b"}))} == {"b"}
    assert rows(client.get("/v1/audit", params={"action": "never"})) == []


def test_an_operator_sees_no_other_tenant(history, client, header):
    operator = header("acme", "operate")
    assert {tenant for tenant, _, _ in rows(client.get("/v1/audit", headers=operator))} == {"acme"}
    for tenant in ("default", "*"):
        assert client.get("/v1/audit", params={"tenant": tenant}, headers=operator).status_code == 403


def test_an_administrator_sees_everybody(history, client, header):
    admin = header("root", "admin")
    assert {tenant for tenant, _, _ in rows(client.get("/v1/audit", headers=admin))} == {"default", "acme"}
    acme = client.get("/v1/audit", params={"tenant": "acme"}, headers=admin)
    assert {tenant for tenant, _, _ in rows(acme)} == {"acme"}


def test_the_data_plane_sees_nothing(client, header):
    assert client.get("/v1/audit", headers=header("acme", "predict", "publish")).status_code == 403


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 1001}, {"after": -1}, {"after": 1 << 63}, {"after": "9" * 20}, {"who": "me"}],
)
def test_a_wrong_query_is_422(client, query):
    assert client.get("/v1/audit", params=query).status_code == 422
