from loadtests.results.knee import Point, bends, knee_of, peak_of


def test_the_knee_is_the_last_load_that_is_answered_before_the_first_that_is_not():
    points = [Point(10, 10), Point(20, 19.5), Point(30, 25), Point(40, 39)]
    assert knee_of(points) == Point(20, 19.5)
    assert knee_of(points[::-1]) == Point(20, 19.5)
    assert peak_of(points) == 39


def test_without_saturation_the_knee_lies_beyond_the_last_load():
    points = [Point(10, 10), Point(20, 20)]
    assert knee_of(points) == Point(20, 20)
    assert not bends(points)
    assert bends([*points, Point(30, 25)])


def test_there_is_no_knee_where_nothing_is_answered_in_its_time():
    assert knee_of([Point(10, 5), Point(20, 20)]) is None
