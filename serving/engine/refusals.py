"""Errors of the cache as refusals of the service, where somebody waits for a load."""

from collections.abc import Iterator
from contextlib import contextmanager

from adapters.errors import AdapterError
from adapters.refs import AdapterRef
from serving.errors import NotReady, from_library


@contextmanager
def refusals(*refs: AdapterRef) -> Iterator[None]:
    """Errors of the cache as refusals."""
    try:
        yield
    except AdapterError as error:
        raise from_library(error) from error
    except TimeoutError as error:
        named = " + ".join(map(str, refs))
        raise NotReady(f"{named} was not loaded in time: everything that could make room is in use") from error
