from loadtests.pages.style import COLOURS, light, themed, variables


def test_every_colour_can_be_found_again():
    assert len({colour.light for colour in COLOURS.values()}) == len(COLOURS)


def test_a_picture_takes_the_readers_theme():
    drawn = "".join(f'<path style="fill: {light(role)}"/>' for role in COLOURS)
    told = themed(drawn)
    assert "#" not in told
    assert all(f"var(--{role})" in told for role in COLOURS)


def test_both_themes_declare_every_role():
    for dark in (False, True):
        assert all(f"--{role}: #" in variables(dark=dark) for role in COLOURS)
    assert variables(dark=True) != variables(dark=False)
