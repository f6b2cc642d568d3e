import asyncio
import json
import logging

import pytest

from adapters.errors import Misfit
from adapters.refs import AdapterRef
from serving.errors import Conflict, NotReady
from serving.registry.journal import Journal, told_in
from serving.registry.records import Published, Version
from serving.watching.watch import AGAIN_S, Watch
from tests.serving.fakes import adapter_manifest


class Shelf:
    """Publishes what it is shown; `refuse` is raised in its place, `meanwhile` is called before the end."""

    def __init__(self):
        self.shown = []
        self.refuse = None
        self.meanwhile = lambda: None
        self.held = {}

    async def __call__(self, place):
        self.shown.append(place.where)
        content = "".join(path.read_text() for path in sorted(place.path.rglob("*")) if path.is_file())
        self.meanwhile()
        if self.refuse is not None:
            raise self.refuse
        versions = self.held.setdefault((place.tenant, place.name), [])
        created = content not in versions
        if created:
            versions.append(content)
        digest = f"sha256:{versions.index(content) + 1:064}"
        ref = AdapterRef(place.tenant, place.name, versions.index(content) + 1, digest)
        return Published(Version(ref, "adapter", adapter_manifest(), 1, 0.0, "watch"), created, None)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def watch(root, data, shelf, clock):
    return Watch(root, shelf, Journal.open(data, root), clock=lambda: clock[0], now=lambda: 7.0)


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "chorus")
    return lambda: [record.getMessage() for record in caplog.records]


def _outcomes(data):
    told = told_in(data)
    return () if told is None else told.outcomes


def put(root, where="acme/tone", content="one", file="adapter_config.json"):
    path = root / where
    path.mkdir(parents=True, exist_ok=True)
    (path / file).write_text(content)


def scan(watch, times=1):
    for _ in range(times):
        asyncio.run(watch.scan())


def told(data):
    return {item.place: (item.state, item.version, item.reasons) for item in _outcomes(data)}


def test_what_lies_still_between_two_looks_is_published_once(root, data, watch, shelf):
    put(root)
    scan(watch)
    assert shelf.shown == []
    scan(watch, 4)
    assert shelf.shown == ["acme/tone"]
    assert told(data) == {"acme/tone": ("published", 1, ())}


def test_what_is_still_being_copied_waits(root, watch, shelf):
    for number in range(5):
        put(root, file=f"{number}.json")
        scan(watch)
    assert shelf.shown == []
    scan(watch)
    assert shelf.shown == ["acme/tone"]


def test_a_changed_folder_is_a_new_version_and_the_old_bytes_again_the_old_one(root, data, watch, shelf, lines):
    for content in ("one", "two twice", "one"):
        put(root, content=content)
        scan(watch, 3)
    assert len(shelf.shown) == 3
    assert told(data)["acme/tone"][:2] == ("published", 1)
    assert lines() == ["published", "published", "was published already"]


def test_what_changed_while_it_was_refused_is_judged_again(root, data, watch, shelf):
    put(root, content="half")
    shelf.refuse = Misfit(["cut off"])
    shelf.meanwhile = lambda: put(root, content="the whole of it")
    scan(watch, 2)
    assert (shelf.shown, told(data)) == (["acme/tone"], {})
    shelf.refuse, shelf.meanwhile = None, lambda: None
    scan(watch, 2)
    assert told(data) == {"acme/tone": ("published", 1, ())}


def test_a_refusal_is_said_once_with_every_reason_and_tried_again_when_it_changes(root, data, watch, shelf, lines):
    put(root)
    shelf.refuse = Misfit(["no tensor a", "wrong shape b"])
    scan(watch, 5)
    assert shelf.shown == ["acme/tone"]
    assert told(data) == {"acme/tone": ("refused", None, ("no tensor a", "wrong shape b"))}
    assert lines() == ["not published: refused"]
    shelf.refuse = Conflict("over the quota", code="quota_exceeded")
    put(root, content="other")
    scan(watch, 2)
    assert told(data)["acme/tone"][2] == ("over the quota",)
    shelf.refuse = None
    put(root, content="right now")
    scan(watch, 2)
    assert told(data) == {"acme/tone": ("published", 1, ())}


def test_what_is_nobodys_fault_is_tried_again_later_without_a_change(root, data, watch, shelf, clock, lines):
    put(root)
    shelf.refuse = NotReady("the database is away")
    scan(watch, 4)
    assert shelf.shown == ["acme/tone"]
    assert told(data) == {"acme/tone": ("waiting", None, ("the database is away",))}
    clock[0] += AGAIN_S
    scan(watch)
    assert len(shelf.shown) == 2
    assert lines() == ["not published: waiting"]
    shelf.refuse = None
    clock[0] += AGAIN_S
    scan(watch)
    assert told(data) == {"acme/tone": ("published", 1, ())}


def test_a_file_that_goes_while_it_is_read_is_met_again(root, data, watch, shelf):
    put(root)
    shelf.refuse = FileNotFoundError("adapter_config.json")
    scan(watch, 2)
    assert told(data) == {}
    shelf.refuse = None
    scan(watch, 2)
    assert told(data)["acme/tone"][0] == "published"


def test_a_folder_that_goes_retires_nothing_and_may_come_again(root, data, watch, shelf, lines):
    put(root)
    scan(watch, 2)
    (root / "acme" / "tone" / "adapter_config.json").unlink()
    (root / "acme" / "tone").rmdir()
    scan(watch, 2)
    assert told(data) == {}
    assert lines()[-1].startswith("gone; its versions stay")
    assert shelf.held == {("acme", "tone"): ["one"]}
    put(root)
    scan(watch, 2)
    assert told(data)["acme/tone"][:2] == ("published", 1)


def test_one_bad_place_holds_no_other_back(root, data, watch, shelf):
    put(root, "acme/Bad")
    put(root, "acme/good")
    (root / "stray.txt").write_text("x")
    scan(watch, 3)
    found = told(data)
    assert found["acme/good"][0] == "published"
    assert found["acme/Bad"][0] == "refused"
    assert "outside of any tenant" in found["stray.txt"][2][0]


def test_links_inside_are_refused_once(root, data, watch, shelf, lines, tmp_path):
    put(root)
    (root / "acme" / "tone" / "weights.safetensors").symlink_to(tmp_path)
    scan(watch, 3)
    assert "is a link" in told(data)["acme/tone"][2][0]
    assert (shelf.shown, lines()) == ([], ["not published: refused"])


def test_a_service_that_starts_again_publishes_nothing_again(root, data, watch, shelf):
    put(root)
    scan(watch, 2)
    again = Watch(root, shelf, Journal.open(data, root), now=lambda: 8.0)
    scan(again, 3)
    assert shelf.shown == ["acme/tone"]
    put(root, content="changed meanwhile")
    scan(again, 2)
    assert shelf.shown == ["acme/tone"] * 2


def test_a_folder_that_can_not_be_read_is_said_once_and_forgets_nothing(root, data, watch, lines):
    put(root)
    scan(watch, 2)
    moved = root.rename(root.with_name("away"))
    scan(watch, 3)
    assert [line for line in lines() if "can not be read" in line] == ["the folder can not be read"]
    assert told(data)["acme/tone"][0] == "published"
    moved.rename(root)
    scan(watch, 2)
    assert json.loads((data / "watch.json").read_text())["folder"] == str(root)
