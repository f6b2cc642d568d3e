"""`Idempotency-Key`: a write that a client may send again without doing it twice.

The answer to the first is kept with the write for a day and given again, with `idempotent-replayed: true`; the same key
on another request is a 422.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from serving.errors import BadRequest
from serving.logs import note
from serving.registry.records import Once, Published

OnceOf = Callable[[str], Once]  # by the digest of the request's body
_ABOUT = "1 to 128 printable characters: the same request again gets the same answer for a day"


async def once_of(
    request: Request, idempotency_key: Annotated[str | None, Header(description=_ABOUT)] = None
) -> OnceOf | None:
    """What makes the request happen once, or None without a key; raises `BadRequest` before the body is read."""
    if idempotency_key is None:
        return None
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise BadRequest("send one Idempotency-Key", code="invalid_idempotency_key")
    url = request.url
    of = partial(Once.of, idempotency_key, method=request.method, path=url.path, query=url.query)
    of(digest="")
    return lambda digest: of(digest=digest)


Idempotent = Annotated[OnceOf | None, Depends(once_of)]


async def once_with_body(request: Request, of: OnceOf | None) -> Once | None:
    """The same for a request whose body has been read."""
    return None if of is None else of(f"sha256:{hashlib.sha256(await request.body()).hexdigest()}")


def outcome(published: Published, response: Response, root: str) -> None:
    """The status and headers of a publish: 201 and where it is, 200 where it was there; whether it is told again."""
    ref = published.version.ref
    note(digests=(ref.digest,))
    response.status_code = 201 if published.created else 200
    response.headers["location"] = f"{root}/{ref.name}@{ref.version}"
    if published.replayed:
        response.headers["idempotent-replayed"] = "true"
