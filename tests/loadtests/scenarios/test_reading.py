import pytest

from loadtests.scenarios.reading import BadScenario, changed, find, names, read, scenario_of

PLAIN = {"about": "a test", "arrivals": {"rate": 5}}


def refused(told):
    with pytest.raises(BadScenario) as failed:
        scenario_of(told, "mine.toml")
    return str(failed.value)


@pytest.mark.parametrize("name", names())
def test_every_scenario_of_the_product_can_be_read(name):
    scenario = read(find(name))
    assert scenario.about
    assert not scenario.about.endswith(".")


def test_the_issue_asks_for_these():
    wanted = {
        "single",
        "zipf",
        "uniform",
        "cold",
        "churn",
        "hotload",
        "noisy-neighbour",
        "burst",
        "ramp",
        "punica",
        "azure",
    }
    assert wanted | {"slora-alpha", "slora-cv"} <= set(names())


def test_a_file_says_only_what_differs_from_the_defaults():
    scenario = scenario_of(PLAIN, "mine.toml")
    assert scenario.arrivals.rate == 5.0
    assert scenario.adapters.count == 100
    assert [tenant.name for tenant in scenario.tenants] == ["default"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"adapters": {"count": 0}}, "mine.toml: adapters.count: input should be greater than or equal to 1, not 0"),
        ({"adapters": {"cuont": 3}}, "mine.toml: adapters.cuont: is not known here"),
        ({"arrivals": {}}, "mine.toml: arrivals: say one of `rate`"),
        ({"arrivals": {"rate": 1, "load": 0.5}}, "mine.toml: arrivals: say one of `rate`"),
        ({"arrivals": {"closed": 4, "cv": 2}}, "mine.toml: arrivals: `closed` has no arrivals of its own"),
        ({"arrivals": {"rate": float("nan")}}, "mine.toml: arrivals.rate"),
        ({"popularity": {"law": "magic"}}, "mine.toml: popularity.law: input should be 'zipf'"),
        ({"requests": {"lengths": {"lowest": 9, "highest": 8}}}, "requests.lengths: `lowest` 9 is above `highest` 8"),
        ({"time": {"phase_s": 15.0}}, "mine.toml: time: 20 seconds hold no quiet and busy phase"),
        ({"time": {"phase_s": 5.0}}, "mine.toml: `time.phase_s` without `publishing` or a busy tenant"),
        ({"time": {"phase_s": 5.0, "settle_s": 5.0}}, "mine.toml: time: `settle_s` 5 leaves nothing of a phase"),
        ({"tenants": [{"name": "a", "only": "busy"}]}, "needs `time.phase_s`"),
        ({"tenants": [{"name": "a"}, {"name": "a"}]}, "each name once"),
        ({"tenants": [{"name": "A!"}]}, "mine.toml: tenants.0.name"),
        ({"sweep": {"over": "cv", "values": [1]}}, "mine.toml: sweep: `values` needs two different ones"),
        ({"sweep": {"over": "cv", "values": [1, -1]}}, "mine.toml: sweep.values: arrivals.cv: input should be greater"),
        ({"sweep": {"over": "law", "values": ["zipf", 3]}}, "mine.toml: sweep.values: popularity.law"),
        ({"thresholds": [{"figure": "p42_ms", "at_most": 1}]}, "no figure p42_ms"),
        ({"thresholds": [{"figure": "p50_ms"}]}, "mine.toml: thresholds.0: p50_ms: say one of `at_most`"),
        ({"thresholds": [{"figure": "nobody.p50_ms", "at_most": 1}]}, "no figure nobody.p50_ms"),
        ({"about": ""}, "mine.toml: about"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_member(change, says):
    assert says in refused(PLAIN | change)


def test_all_that_is_wrong_is_told_at_once():
    told = refused({"arrivals": {"rate": -1}, "adapters": {"texts": 1000}})
    assert all(f"mine.toml: {place}" in told for place in ("about: is needed", "arrivals.rate", "adapters.texts"))


def test_a_tenants_own_figure_may_have_a_threshold():
    told = PLAIN | {"tenants": [{"name": "a"}, {"name": "b"}], "thresholds": [{"figure": "b.p99_ms", "at_most": 5}]}
    assert scenario_of(told, "x").thresholds[0].figure == "b.p99_ms"


def test_a_change_sets_one_member_anew():
    assert changed(PLAIN, "arrivals.load=0.5")["arrivals"] == {"load": 0.5}
    assert changed(PLAIN, "popularity.law=uniform")["popularity"] == {"law": "uniform"}
    assert changed(PLAIN, "requests.lengths.mean = 12.5")["requests"]["lengths"] == {"mean": 12.5}
    assert changed(PLAIN, "sweep.values=[1, 2]")["sweep"] == {"values": [1, 2]}
    assert "load" not in PLAIN["arrivals"]


@pytest.mark.parametrize("change", ["arrivals", "=3", "about.x=1", ".a=1"])
def test_a_change_that_names_no_member_is_refused(change):
    with pytest.raises(BadScenario, match="--set"):
        changed(PLAIN, change)


def test_a_scenario_is_found_by_name_or_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('about = "mine"\n[arrivals]\nrate = 3\n')
    assert read(find(str(path))).about == "mine"
    assert find("zipf").name == "zipf.toml"
    with pytest.raises(BadScenario, match=r"there is no scenario 'zpif': .* zipf"):
        find("zpif")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("about = ")
    with pytest.raises(BadScenario, match=r"mine\.toml: "):
        read(path)
