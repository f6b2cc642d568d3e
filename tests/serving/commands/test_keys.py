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
