import pytest

from serving.errors import DependencyFailed
from serving.logs import request_scope
from tests.serving.registry.given import ACME, OTHER, digest_of, report_of

ONE = digest_of(b"one")


def add(catalog, data=b"one", name="ada", *, by=ACME, promote=False):
    return catalog.add_version(by, "adapter", name, report_of(data), promote=promote)


def confined(catalog):
    names = catalog.since(0).names.values()
    return {str(v.ref): v.quarantined for record in names for v in record.versions if v.quarantined is not None}


def test_every_name_with_these_bytes_is_told_whoever_it_belongs_to(catalog):
    add(catalog)
    add(catalog, b"two")
    add(catalog, name="bob")
    seen = add(catalog, by=OTHER).revision
    assert catalog.quarantine(ONE, "bit rot").value
    assert confined(catalog) == {"acme:ada@1": "bit rot", "acme:bob@1": "bit rot", "other:ada@1": "bit rot"}
    assert set(catalog.since(seen).names) == {
        ("acme", "adapter", "ada"),
        ("acme", "adapter", "bob"),
        ("other", "adapter", "ada"),
    }


def test_twice_is_once_and_the_first_reason_stays(catalog):
    add(catalog)
    catalog.quarantine(ONE, "bit rot")
    before = catalog.since(0).names
    assert not catalog.quarantine(ONE, "lost").value
    assert catalog.since(0).names == before
    assert catalog.lift(ONE).value
    assert not catalog.lift(ONE).value
    assert confined(catalog) == {}


def test_the_audit_of_each_tenant_says_so(catalog):
    add(catalog)
    add(catalog, by=OTHER)
    catalog.quarantine(ONE, "bit rot")
    catalog.lift(ONE)
    for tenant in ("acme", "other"):
        lifted, put = catalog.history(tenant, "adapter", "ada")[:2]
        assert (put.action, put.actor, put.subject, put.detail) == ("quarantine", "chorus", "ada@1", ONE)
        assert (put.before, put.after) == ('{"quarantined":null}', '{"quarantined":"bit rot"}')
        assert (lifted.action, lifted.after) == ("lift", '{"quarantined":null}')


def test_publishing_the_same_bytes_anywhere_heals_them(catalog):
    add(catalog)
    add(catalog, by=OTHER)
    catalog.quarantine(ONE, "bit rot")
    again = add(catalog)
    assert (again.value.created, again.value.version.quarantined) == (False, None)
    assert confined(catalog) == {}


def test_bytes_may_be_confined_before_anybody_names_them(catalog):
    catalog.quarantine(ONE, "truncated")
    assert add(catalog, b"two").value.version.quarantined is None
    assert add(catalog).value.version.quarantined is None  # these came whole
    assert not catalog.lift(ONE).value


def test_no_alias_is_moved_to_a_version_in_quarantine(catalog):
    add(catalog, promote=True)
    add(catalog, b"two")
    catalog.quarantine(digest_of(b"two"), "bit rot")
    with pytest.raises(DependencyFailed, match=r"ada@2 is in quarantine \(bit rot\)") as caught:
        catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=None)
    assert caught.value.code == "quarantined"
    assert catalog.since(0).names["acme", "adapter", "ada"].aliases == {"prod": 1}
    catalog.delete(ACME, "adapter", "ada", 2)  # but it can be retired


def test_only_the_tenant_that_published_anew_is_told_who_did_it_and_by_which_request(catalog):
    add(catalog)
    add(catalog, by=OTHER)
    catalog.quarantine(ONE, "bit rot")
    with request_scope("req_secret"):
        add(catalog)
    mine, theirs = (catalog.history(tenant, "adapter", "ada")[0] for tenant in ("acme", "other"))
    assert (mine.action, mine.actor, mine.request_id) == ("lift", ACME.key_id, "req_secret")
    assert (theirs.action, theirs.actor, theirs.request_id) == ("lift", "chorus", "")


def test_nobody_is_told_whose_request_met_the_bad_bytes(catalog):
    add(catalog)
    add(catalog, by=OTHER)
    with request_scope("req_secret"):
        catalog.quarantine(ONE, "bit rot")
        catalog.lift(ONE)
    for tenant in ("acme", "other"):
        entries = catalog.history(tenant, "adapter", "ada")[:2]
        assert [(entry.actor, entry.request_id) for entry in entries] == [("chorus", "")] * 2
