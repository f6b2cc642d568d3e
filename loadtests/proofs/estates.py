"""What each tenant of a proof owns, made over HTTP as its owner would: one thing of every kind, all with marked names.

Every name, label and tag holds the owner's mark, random and nobody else's, so that a body in which another tenant's mark
stands is a leak, wherever it stands.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, Self

import aiohttp

from adapters.formats import native
from loadtests.proofs.calls import Told, call, publish
from loadtests.proofs.fingerprints import Forge, Logits
from loadtests.proofs.stage import StageFailed
from loadtests.synthetic import make_package
from serving.registry.records import PUBLIC

SHARED = "shared/news"  # a name that every tenant has, for packages of its own
LETTERS = {"amber": "bcdf", "birch": "ghjk", "cedar": "lmnp", PUBLIC: "qrst"}
RETIRED = 2


@dataclass(frozen=True)
class Ids:
    """By what the things of one tenant can be named; `digest` is of the adapter that `name` means."""

    tenant: str
    name: str
    retired: int  # a version of `name` that is no more
    embedding: str
    target: str
    alias: str
    once: str  # an idempotency key that was used
    digest: str
    key_id: str

    @classmethod
    def of(cls, tenant: str, mark: str, digest: str, key_id: str) -> Self:
        """The ids of a tenant; names of `public` begin with its name."""
        first = f"{PUBLIC}/" if tenant == PUBLIC else ""
        name, embedding, target = (f"{first}{mark}-{kind}" for kind in "vet")
        return cls(tenant, name, RETIRED, embedding, target, f"{mark}-a", f"{mark}-o", digest, key_id)


@dataclass(frozen=True, eq=False)
class Estate:
    """One tenant: its ids, the words that no one else may be told, and what its `SHARED` adapter answers."""

    ids: Ids
    words: tuple[str, ...]
    package: bytes  # what it published under `name`
    logits: Logits | None  # None for the tenant `public`, which has no such name

    @property
    def mine(self) -> str:
        """A name with a package of its own."""
        return self.ids.name if self.logits is None else SHARED


def mark_of(tenant: str, dice: random.Random) -> str:
    """A word that nobody else has, of letters that no other tenant's words have.

    The service suggests names that are spelt alike: here nothing is, so that a suggestion tells of no chance.
    """
    return "".join(dice.choices(LETTERS[tenant], k=16))


def absent_ids(tenant: str, like: Ids, dice: random.Random) -> Ids:
    """The ids of nobody, letter for letter like those of a tenant."""
    mark, digest = mark_of(tenant, dice), f"sha256:{dice.getrandbits(256):064x}"
    found = Ids.of(PUBLIC if tenant == PUBLIC else mark, mark, digest, f"{dice.getrandbits(48):012x}")
    assert not set(astuple(found)) & (set(astuple(like)) - {PUBLIC, RETIRED}), "nobody's ids are somebody's"
    return found


async def build(
    session: aiohttp.ClientSession, tenant: str, mark: str, forge: Forge, tokenizer: Mapping[str, Any]
) -> Estate:
    """Make what a tenant owns; the session carries its key. Raises `StageFailed`."""
    open_ = tenant == PUBLIC
    ids = Ids.of(PUBLIC if open_ else mark, mark, "", "")
    name, embedding, once = ids.name, ids.embedding, ids.once
    packages = [_package(forge, f"{mark}-{number}", mark) for number in range(3)]
    first = await _done(publish(session, name, packages[0], promote=True, once=once))
    for data in packages[1:]:
        await _done(publish(session, name, data))
    await _done(call(session, "DELETE", f"/v1/adapters/{name}@{RETIRED}"))
    await _done(call(session, "PUT", f"/v1/adapters/{name}/aliases/{ids.alias}", body={"version": 3}))
    await _done(call(session, "PUT", f"/v1/adapters/{name}@1/tags", body={"tags": {"owner": f"tag-{mark}"}}))
    await _done(call(session, "POST", f"/v1/adapters/{name}:pin"))
    word = f"word{mark}"
    wish = {"name": embedding, "tokenizer": _with_word(tokenizer, word), "reference_embedding": "default"}
    await _done(call(session, "POST", "/v1/token-embeddings", body={**wish, "activate": False}))
    stack = {"adapters": [f"{name}@1"], "embedding": embedding, "head": name}
    await _done(call(session, "PUT", f"/v1/targets/{ids.target}", body=stack))
    label = f"keeper-{mark}"
    key = await _done(call(session, "POST", "/v1/keys", body={"scopes": ["predict"], "label": label}))
    logits = None
    if not open_:
        shared = forge.make(f"{mark}-shared")
        await _done(publish(session, SHARED, shared.data))
        logits = shared.logits
    ids = replace(ids, digest=str(first.body["digest"]), key_id=str(key.body["key_id"]))
    words = [once, label, str(key.body["secret"])]
    if not open_:
        words += [mark, word, ids.key_id, *(native.digest(data).removeprefix("sha256:") for data in packages)]
    return Estate(ids, tuple(words), packages[0], logits)


def _package(forge: Forge, drawn: str, mark: str) -> bytes:
    labels = [f"label-{mark}-{number}" for number in range(3)]
    return native.write(make_package(forge.profile, "lora", drawn, 0, labels=labels))


def _with_word(tokenizer: Mapping[str, Any], word: str) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(tokenizer))
    vocabulary = copy["model"]["vocab"]
    vocabulary[word] = len(vocabulary)
    return copy


async def _done(asked: Any) -> Told:
    told: Told = await asked
    if not told.ok:
        raise StageFailed(f"{told.why}: {told.body.get('detail', '')}")
    return told
