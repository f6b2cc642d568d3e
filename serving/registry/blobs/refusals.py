"""Errors of the disk, and of a store that is away, as refusals."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import NotReady

RETRY_AFTER = 2.0  # seconds: a full disk or an absent store is seldom well again at once


@contextmanager
def storing() -> Iterator[None]:
    """Errors of the disk as `NotReady`; the answer names no path."""
    try:
        yield
    except OSError as error:
        raise away(error.strerror or type(error).__name__) from error


def away(reason: str) -> NotReady:
    """The refusal while bytes can neither be stored nor read."""
    return NotReady(
        f"the blob store can not do this now: {reason}", code="storage_unavailable", retry_after=RETRY_AFTER
    )
