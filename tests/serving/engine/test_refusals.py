"""What went wrong in the cache, as the service says it."""

import pytest

from adapters.errors import LoadFailed, OutOfRoom, PackageRotten, StoreUnavailable
from serving.engine.refusals import refusals
from serving.errors import DependencyFailed, NotReady, ServiceError
from tests.serving.scheduler.machine import ref


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (LoadFailed("torn"), DependencyFailed, "adapter_load_failed"),
        (PackageRotten("wrong bytes", "sha256:x"), DependencyFailed, "blob_rotten"),
        (StoreUnavailable("away", 2.0), NotReady, "storage_unavailable"),
        (OutOfRoom("9 of 5"), DependencyFailed, "out_of_room"),
        (TimeoutError(), NotReady, "not_ready"),
    ],
)
def test_each_error_has_its_code(error, kind, code):
    with pytest.raises(ServiceError) as caught, refusals(ref("x"), ref("y")):
        raise error
    assert type(caught.value) is kind and caught.value.code == code


def test_a_load_that_took_too_long_names_what_was_waited_for():
    with pytest.raises(NotReady, match=r"a:x@1 \+ a:y@1 was not loaded in time"), refusals(ref("x"), ref("y")):
        raise TimeoutError
