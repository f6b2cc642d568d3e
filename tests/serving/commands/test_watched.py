import pytest

from serving.api.app import build_app
from serving.registry.journal import Journal, Outcome
from tests.serving import fakes
from tests.serving.hand import Hand
from tests.serving.server import serve


@pytest.fixture
def held(tmp_path):
    for name in ("blobs", "watched"):
        (tmp_path / name).mkdir()
    held = fakes.make_fakes(tmp_path / "blobs")
    object.__setattr__(held.services, "watched", tmp_path)
    journal = Journal.open(tmp_path, tmp_path / "watched")
    journal.keep(Outcome("default/tone", "default", "tone", "s", "published", 5.0, 3, "sha256:" + "a" * 64))
    journal.keep(Outcome("default/bad", "default", "bad", "s", "refused", 6.0, reasons=("no tensor a", "no tensor b")))
    return held


def test_what_became_of_each_place_is_a_line(hand):
    head, bad, good = (line.split() for line in hand.run("watch").stdout.splitlines())
    assert head == ["PLACE", "STATE", "VERSION", "AT", "WHY"]
    assert bad[:3] == ["default/bad", "refused", "-"]
    assert " ".join(bad[4:]) == "no tensor a; no tensor b"
    assert good[:4] == ["default/tone", "published", "default:", "tone@3"]
    assert [item["place"] for item in hand.json("watch")["items"]] == ["default/bad", "default/tone"]


def test_a_service_that_watches_nothing_says_so(tmp_path):
    with serve(build_app(fakes.make_fakes(tmp_path).services)) as url:
        assert "serve --watch DIR" in Hand(url).run("watch").stderr
