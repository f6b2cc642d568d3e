from serving.api.watch_answers import watched_answer
from serving.registry.journal import Outcome


def test_a_place_is_told_whole_with_its_time_in_utc():
    told = watched_answer(Outcome("acme/tone", "acme", "tone", "s", "waiting", 5.0, reasons=("away",)))
    assert told == {
        "place": "acme/tone",
        "tenant": "acme",
        "name": "tone",
        "state": "waiting",
        "at": "1970-01-01T00:00:05.000Z",
        "version": None,
        "digest": None,
        "reasons": ["away"],
    }
