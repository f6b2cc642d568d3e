import subprocess
import sys

from serving.tenancy.keys import SCOPES
from tests.serving.hand import Hand


def test_keys_over_http_need_no_sql_and_no_web_framework():
    code = (
        "import sys\n"
        "from serving.commands.keys import open_keys\n"
        "from serving.commands.options import Connection\n"
        "with open_keys(Connection('http://127.0.0.1:1', None), None, '', 'default'):\n"
        "    heavy = {'sqlalchemy', 'alembic', 'fastapi'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_over_http_keys_belong_to_the_callers_tenant(hand, held):
    root = held.keyring.add("acme", *SCOPES).secret
    operator = Hand(hand.url, root)
    made = operator.json("key", "create", "--scopes", "predict")
    assert made["tenant"] == "acme"
    assert len(operator.run("key", "ls").stdout.splitlines()) == 3
    operator.run("key", "revoke", made["key_id"])
    assert Hand(hand.url, made["secret"]).run("ls", code=6).stdout == ""


def test_a_key_may_have_an_end_and_is_told_of_it(hand, held):
    root = held.keyring.add("acme", *SCOPES).secret
    operator = Hand(hand.url, root)
    assert operator.json("key", "create", "--expires-in", "30d")["expires"] is not None
    assert "until " in operator.run("key", "create", "--expires-in", "90s").stderr
    assert "--expires-in" in operator.run("key", "create", "--expires-in", "soon", code=2).output


def test_rotate_makes_a_second_key_and_ends_the_first(hand, held):
    operator = Hand(hand.url, held.keyring.add("acme", *SCOPES).secret)
    old = operator.json("key", "create", "--scopes", "predict", "--label", "shop")
    new = operator.json("key", "rotate", old["key_id"], "--grace", "10m")
    assert (new["label"], new["scopes"]) == ("shop", ["predict"])
    listed = {key["key_id"]: key["expires"] for key in operator.json("key", "ls")["items"]}
    assert listed[old["key_id"]] is not None
    assert listed[new["key_id"]] is None


def test_an_administrator_names_the_tenant(hand, held):
    admin = Hand(hand.url, held.keyring.add("root", "admin").secret)
    made = admin.json("key", "create", "--scopes", "publish", "--tenant", "new")
    assert made["tenant"] == "new"
    assert [key["key_id"] for key in admin.json("key", "ls", "--tenant", "new")["items"]] == [made["key_id"]]
    admin.run("key", "revoke", made["key_id"], "--tenant", "new")
    admin.run("key", "revoke", made["key_id"], code=3)
