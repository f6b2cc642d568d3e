"""The few requests that a blob store makes of S3, GCS or Azure, each answered or refused within a deadline."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol, Self

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, from_url

from serving.errors import BadRequest
from serving.logs import log
from serving.registry.blobs.refusals import away

SCHEMES = ("s3", "gs", "az")
SINGLE = 8 << 20  # bytes of a file that goes in one request; a larger one goes in parts
_PART, _PARTS_AT_ONCE = 5 << 20, 4
_LISTED = 1000  # objects in one answer
_TOLD = 500  # characters of an error that are logged


@dataclass(frozen=True)
class Held:
    """One object as the bucket lists it; `modified` is its last write (UTC seconds, of the bucket's clock)."""

    key: str
    nbytes: int
    modified: float


class Bucket(Protocol):
    """A flat store of whole objects by key. Every method raises `NotReady` where the store gives no good answer."""

    def put(self, key: str, file: Path, *, create: bool) -> bool:
        """Store a file as a whole; with `create`, only where nothing is there, else False."""
        ...

    def head(self, key: str) -> Held | None:
        """What is under a key, if anything."""
        ...

    def read(self, key: str, start: int, end: int) -> bytes | None:
        """The bytes [start, end) of an object; None where it is not there."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; what is not there is removed already."""
        ...

    def objects(self, prefix: str) -> Iterator[Held]:
        """Every object whose key begins with the path `prefix`."""
        ...


class ObstoreBucket:
    """A bucket, or a prefix in one, through the library `obstore`. Safe for any number of threads."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, url: str, deadline_s: float) -> Self:
        """`s3://bucket/prefix`, `gs://...` or `az://...`; one request takes `deadline_s` at most, its retries included.

        Raises `BadRequest` for another URL, or where the extra `cloud` is not installed.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest:
            raise BadRequest(f"blob_url {url!r} names no store: write s3://bucket/prefix, gs://... or az://...")
        half = timedelta(seconds=deadline_s / 2)  # retries begin within one half, and the last one ends in the other
        try:
            store = from_url(
                url,
                # Plain HTTP is for an endpoint that says so: the clouds' own are HTTPS.
                client_options={"timeout": half, "connect_timeout": half, "allow_http": True},
                retry_config={"max_retries": 2, "retry_timeout": half},
            )
        except (BaseError, ValueError) as error:
            raise BadRequest(f"blob_url {url!r} can not be opened: {error}") from error
        return cls(store)

    def put(self, key: str, file: Path, *, create: bool) -> bool:
        """Store a file as a whole; with `create`, only where nothing is there, else False."""
        with _asking():
            parts = file.stat().st_size > SINGLE
            if parts and create and self.head(key) is not None:
                return False
            try:
                obstore.put(
                    self._store,
                    key,
                    file,
                    mode="create" if create and not parts else "overwrite",  # an upload in parts knows no condition
                    use_multipart=parts,
                    chunk_size=_PART,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def head(self, key: str) -> Held | None:
        """What is under a key, if anything."""
        with _asking():
            try:
                found = obstore.head(self._store, key)
            except (NotFoundError, FileNotFoundError):
                return None
        return Held(key, found["size"], found["last_modified"].timestamp())

    def read(self, key: str, start: int, end: int) -> bytes | None:
        """The bytes [start, end) of an object; None where it is not there."""
        with _asking():
            try:
                return bytes(obstore.get_range(self._store, key, start=start, end=end))
            except (NotFoundError, FileNotFoundError):
                return None

    def delete(self, key: str) -> None:
        """Remove an object; what is not there is removed already."""
        with _asking(), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, key)

    def objects(self, prefix: str) -> Iterator[Held]:
        """Every object whose key begins with the path `prefix`."""
        with _asking():
            for page in obstore.list(self._store, prefix, chunk_size=_LISTED):
                for item in page:
                    yield Held(item["path"], item["size"], item["last_modified"].timestamp())


@contextmanager
def _asking() -> Iterator[None]:
    """Errors of the store as `NotReady`. What it said goes to the log: it may name hosts and accounts."""
    try:
        yield
    except (BaseError, OSError, TimeoutError) as error:
        log("registry", "the blob store does not answer", level=logging.WARNING, why=str(error)[:_TOLD])
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        raise away("it refuses the service's credentials" if denied else type(error).__name__) from error
