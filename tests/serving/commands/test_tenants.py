from serving.registry.records import Quota
from tests.serving.hand import Hand


def test_put_changes_what_is_given_and_keeps_the_rest(hand, held):
    hand.run("tenant", "put", "acme", "--weight", 2, "--bytes", "1GiB", "--requests-per-s", "5.5")
    hand.run("tenant", "put", "acme", "--requests-per-s", "none", "--device-ceiling", "64MiB", "--concurrency", 8)
    wanted = Quota(weight=2.0, nbytes=1 << 30, device_ceiling=64 << 20, concurrency=8)
    assert held.tenants.held["acme"].quota == wanted


def test_ls_show_and_rm(hand):
    hand.run("tenant", "put", "b")
    hand.run("tenant", "put", "a", "--adapters", 7, "--device-floor", "1MiB")
    assert [row.split()[0] for row in hand.run("tenant", "ls").stdout.splitlines()] == ["TENANT", "a", "b"]
    assert "1.0 MiB to all" in hand.run("tenant", "show", "a").stdout
    assert hand.json("tenant", "show", "a")["quota"]["adapters"] == 7
    hand.run("tenant", "rm", "a")
    assert [item["name"] for item in hand.json("tenant", "ls")["items"]] == ["b"]
    hand.run("tenant", "show", "a", code=3)


def test_what_is_no_number_or_size_is_a_usage_error_that_names_the_option(hand, held):
    for option, value in (("--concurrency", "many"), ("--bytes", "big"), ("--cost-per-s", "x")):
        assert option in hand.run("tenant", "put", "acme", option, value, code=2).output
    assert not held.tenants.held


def test_a_key_without_the_scope_is_told_so(hand, held):
    weak = held.keyring.add("acme", "predict").secret
    assert "admin" in Hand(hand.url, weak).run("tenant", "ls", code=6).output
