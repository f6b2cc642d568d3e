from loadtests.client.plan import RIGHT, VERDICTS
from tests.loadtests.fake import sample


def test_a_wait_begins_when_the_request_was_due():
    assert sample(2.0, wait=0.5, sent=2.4).seconds == 0.5


def test_verdicts_are_all_different():
    assert len(set(VERDICTS)) == 5
    assert VERDICTS[0] == RIGHT
