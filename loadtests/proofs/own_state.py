"""What a tenant sees of its own, to be compared with what it sees later: nobody else may have changed it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import aiohttp

from loadtests.proofs.calls import call
from loadtests.proofs.estates import Estate


async def state(session: aiohttp.ClientSession, estate: Estate) -> dict[str, Any]:
    """All that the registry says to a tenant of its own, by path; packages as digests."""
    ids, seen = estate.ids, dict[str, Any]()
    paths = ["/v1/adapters", "/v1/targets", "/v1/token-embeddings", "/v1/token-embeddings/active", "/v1/keys"]
    paths += ["/v1/audit?limit=1000", f"/v1/targets/{ids.target}", f"/v1/adapters/{estate.mine}"]
    for root, name in (("/v1/adapters", ids.name), ("/v1/token-embeddings", ids.embedding)):
        paths += [f"{root}/{name}", f"{root}/{name}:history"]
        async with session.get(f"{root}/{name}:package") as answer:
            seen[f"{root}/{name}:package"] = hashlib.sha256(await answer.read()).hexdigest()
    for path in paths:
        seen[path] = (await call(session, "GET", path)).body
    return seen


def changes(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is not as it was, by tenant and path."""
    return [
        f"{tenant}: {path}"
        for tenant, seen in before.items()
        for path, value in seen.items()
        if after[tenant].get(path) != value
    ]
