"""What went wrong in the cache, as the service says it, and whose bytes were to blame."""

import pytest

from adapters.errors import LoadFailed, OutOfRoom, PackageLost, PackageRotten, StoreUnavailable
from serving.engine.refusals import TOLD_S, Refusals
from serving.errors import DependencyFailed, NotReady, ServiceError
from tests.serving.scheduler.machine import ref
from tests.serving.test_affinity import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def refusals(clock):
    return Refusals(clock)


def refuse(refusals, error):
    with pytest.raises(ServiceError) as caught, refusals.of(ref("x"), ref("y")):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (LoadFailed("torn"), DependencyFailed, "adapter_load_failed"),
        (PackageLost("gone", "sha256:x"), DependencyFailed, "blob_lost"),
        (PackageRotten("wrong bytes", "sha256:x"), DependencyFailed, "blob_rotten"),
        (StoreUnavailable("away", 2.0), NotReady, "storage_unavailable"),
        (OutOfRoom("9 of 5"), DependencyFailed, "out_of_room"),
        (TimeoutError(), NotReady, "not_ready"),
    ],
)
def test_each_error_has_its_code_and_only_bad_bytes_are_held_against_a_package(refusals, error, kind, code):
    refusal = refuse(refusals, error)
    assert type(refusal) is kind and refusal.code == code
    assert refusals.bad == ({"sha256:x"} if code.startswith("blob_") else frozenset())


def test_a_load_that_took_too_long_names_what_was_waited_for(refusals):
    with pytest.raises(NotReady, match=r"a:x@1 \+ a:y@1 was not loaded in time"), refusals.of(ref("x"), ref("y")):
        raise TimeoutError


def test_what_is_bad_stays_told_while_it_is_tried_and_is_forgotten_then(refusals, clock):
    refuse(refusals, PackageRotten("wrong bytes", "sha256:x"))
    refuse(refusals, PackageLost("gone", "sha256:y"))
    clock.now += TOLD_S - 1
    refuse(refusals, PackageRotten("wrong bytes", "sha256:x"))
    assert refusals.bad == {"sha256:x", "sha256:y"}
    clock.now += 1
    assert refusals.bad == {"sha256:x"}
    clock.now += TOLD_S
    assert refusals.bad == frozenset()
