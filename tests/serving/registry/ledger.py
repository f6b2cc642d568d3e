"""The state of a registry twice: as its tables say it, and as its audit tells it from the beginning."""

import json
from collections import defaultdict

from serving.tenancy.store import KeyStore


def stored(registry):
    """What the tables say."""
    delta = registry.catalog.since(0)
    names = {}
    for key, record in delta.names.items():
        if record is None:
            continue
        versions = {
            v.ref.version: {
                "digest": v.ref.digest,
                "tags": dict(v.tags),
                "quarantined": v.quarantined,
                "pinned": v.ref.version in record.pinned,
            }
            for v in record.versions
        }
        names[key] = {"versions": versions, "aliases": dict(record.aliases)}
    _, keys = KeyStore(registry.database).since(-1)
    return {
        "names": names,
        "active": {tenant: name for tenant, name in delta.active.items() if name is not None},
        "tenants": {tenant: vars(quota) for tenant, quota in delta.quotas.items() if quota is not None},
        "keys": {key.key_id: (key.tenant, " ".join(sorted(key.scopes)), key.expires, key.revoked) for key in keys},
        "retired": {key: len(registry.catalog.tombstones(*key)) for key in delta.names},
    }


def told(registry):
    """What the audit says, replayed."""
    teller = _Teller()
    for entry in reversed(registry.catalog.audit(None, after=0, limit=10**6)):
        before, after = (json.loads(text) if text else None for text in (entry.before, entry.after))
        getattr(teller, entry.action)(entry, before, after)
    teller.state["names"] = {key: name for key, name in teller.names.items() if name["versions"]}
    teller.state["retired"] = {key: teller.gone[key] for key in teller.names}
    return teller.state


class _Teller:
    """One method per action of the audit; each checks that it begins where the last one ended."""

    def __init__(self):
        self.names = defaultdict(lambda: {"versions": {}, "aliases": {}})
        self.gone = defaultdict(int)
        self.state = {"active": {}, "tenants": {}, "keys": {}}

    def name(self, entry):
        return self.names[entry.tenant, entry.space, entry.name]

    def version(self, entry):
        return self.name(entry)["versions"][int(entry.subject.partition("@")[2])]

    def publish(self, entry, before, after):
        versions = self.name(entry)["versions"]
        assert before is None
        assert after["version"] not in versions
        versions[after["version"]] = {"digest": after["digest"], "tags": {}, "quarantined": None, "pinned": False}

    def retire(self, entry, before, after):
        assert self.name(entry)["versions"].pop(before["version"])["digest"] == before["digest"]
        self.gone[entry.tenant, entry.space, entry.name] += 1

    def alias(self, entry, before, after):
        aliases, alias = self.name(entry)["aliases"], entry.subject.partition("@")[2]
        assert aliases.get(alias) == (before and before["version"])
        aliases[alias] = after["version"]

    def unalias(self, entry, before, after):
        assert self.name(entry)["aliases"].pop(entry.subject.partition("@")[2]) == before["version"]

    def pin(self, entry, before, after):
        assert self.version(entry).items() >= before.items()
        self.version(entry).update(after)

    unpin = quarantine = lift = pin

    def tag(self, entry, before, after):
        assert self.version(entry)["tags"] == before
        self.version(entry)["tags"] = after

    def activate(self, entry, before, after):
        assert self.state["active"].get(entry.tenant, "default") == before["active"]
        self.state["active"].pop(entry.tenant, None)
        if after["active"] != "default":
            self.state["active"][entry.tenant] = after["active"]

    def put_tenant(self, entry, before, after):
        assert self.state["tenants"].get(entry.name) == before
        self.state["tenants"][entry.name] = after

    def delete_tenant(self, entry, before, after):
        assert self.state["tenants"].pop(entry.name) == before

    def create_key(self, entry, before, after):
        assert entry.name not in self.state["keys"]
        self.state["keys"][entry.name] = (entry.tenant, " ".join(after["scopes"]), after["expires"], False)

    def rotate_key(self, entry, before, after):
        tenant, scopes, expires, revoked = self.state["keys"][entry.name]
        assert expires == before["expires"]
        self.state["keys"][entry.name] = (tenant, scopes, after["expires"], revoked)

    def revoke_key(self, entry, before, after):
        self.state["keys"][entry.name] = (*self.state["keys"][entry.name][:3], True)
