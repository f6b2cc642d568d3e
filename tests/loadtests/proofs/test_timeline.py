import pytest

from loadtests.proofs.timeline import Timeline


def moved(*moves):
    """A timeline of (version, begun, done)."""
    timeline = Timeline()
    for version, begun, done in moves:
        timeline.begin(version, begun)
        if done is not None:
            timeline.done(done)
    return timeline


def test_after_the_acknowledgement_only_the_new_version_is_right():
    timeline = moved((1, 0, 1), (2, 5, 6))
    assert timeline.current(2, 4) == {1}
    assert timeline.current(7, 8) == {2}
    assert timeline.version == 2


def test_while_a_move_is_under_way_both_are_right():
    timeline = moved((1, 0, 1), (2, 5, 6))
    assert timeline.current(5.2, 5.8) == {1, 2}
    assert timeline.current(4, 5) == {1, 2}  # the move began before the answer came
    assert timeline.current(6, 9) == {1, 2}  # asked at the very moment of the acknowledgement


def test_a_move_that_is_not_acknowledged_may_have_happened():
    timeline = moved((1, 0, 1), (2, 5, None))
    assert timeline.current(10, 11) == {1, 2}
    assert timeline.version == 2


def test_a_long_request_may_be_answered_by_every_version_on_its_way():
    timeline = moved((1, 0, 1), (2, 5, 6), (3, 7, 8), (1, 9, 10))
    assert timeline.current(5.5, 7.5) == {1, 2, 3}
    assert timeline.current(8.5, 8.6) == {3}
    assert timeline.current(20, 21) == {1}


def test_before_the_first_move_nothing_is_right():
    assert moved((1, 5, 6)).current(0, 4) == frozenset()


def test_two_moves_at_once_are_refused():
    timeline = moved((1, 0, None))
    with pytest.raises(ValueError, match="the move to 1 has not been acknowledged"):
        timeline.begin(2, 1)
