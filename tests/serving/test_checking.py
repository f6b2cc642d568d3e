"""The checker behind a handle that remembers what it was asked."""

import pytest
from ray.exceptions import RayActorError

from serving.checking import RemoteChecker
from serving.errors import NotReady, Unprocessable
from tests.serving.test_routing import Handle
from tests.serving.virtual_time import run


def test_a_refusal_of_the_checker_is_raised_with_all_it_says(tmp_path):
    async def main():
        refusal = Unprocessable("does not fit", code="does_not_fit", pointer="/layers")
        with pytest.raises(Unprocessable) as caught:
            await RemoteChecker(Handle({"check": refusal})).check(tmp_path)
        assert (caught.value.code, caught.value.faults[0].pointer) == ("does_not_fit", "/layers")
        report = object()
        assert await RemoteChecker(Handle({"check": report})).check(tmp_path) is report
        with pytest.raises(NotReady):
            await RemoteChecker(Handle({"check": RayActorError()})).check(tmp_path)

    run(main())


def test_an_inspection_comes_from_the_checker_too(tmp_path):
    async def main():
        handle = Handle({"inspect": "found"})
        assert await RemoteChecker(handle).inspect(tmp_path, "a text") == "found"
        assert handle.asked[0][:2] == ("inspect", (str(tmp_path), "a text"))

    run(main())


def test_a_matrix_is_built_by_the_checker_or_refused_with_all_it_says(tmp_path):
    async def main():
        handle = Handle({"build": None})
        await RemoteChecker(handle).build("job", tmp_path)
        assert handle.asked[0][:2] == ("build", ("job", str(tmp_path)))
        with pytest.raises(Unprocessable, match="does not fit"):
            await RemoteChecker(Handle({"build": Unprocessable("does not fit")})).build("job", tmp_path)
        with pytest.raises(NotReady):
            await RemoteChecker(Handle({"build": RayActorError()})).build("job", tmp_path)

    run(main())
