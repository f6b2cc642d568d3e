import pytest

from loadtests.pages.canvas import svg
from loadtests.pages.pictures import pictures_of
from tests.loadtests.fake import phased_run, plain_run, sweep_run

RUNS = {
    "plain": (plain_run(), ["time", "percentiles"]),
    "ramp": (sweep_run(), ["load", "time", "percentiles"]),
    "phased": (phased_run(), ["tenants", "time", "percentiles"]),
    "adapters": (sweep_run(over="adapters", values=(1, 2)), ["adapters", "time", "percentiles"]),
    "lost": (sweep_run(capacity=0.0), ["load", "time", "percentiles"]),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_the_pictures_that_it_has_something_for(name):
    run, wanted = RUNS[name]
    assert [picture.name for picture in pictures_of(run)] == wanted


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("wide", [True, False])
def test_every_picture_can_be_drawn(name, wide):
    run, _ = RUNS[name]
    for picture in pictures_of(run):
        assert svg(lambda canvas, picture=picture: picture.draw(run, canvas), picture.name, wide=wide)


def test_captions_tell_what_there_is_to_see():
    captions = {picture.name: picture.caption for picture in pictures_of(phased_run())}
    assert "publishes" in captions["time"]
    assert "publishes" not in {p.name: p.caption for p in pictures_of(plain_run())}["time"]
