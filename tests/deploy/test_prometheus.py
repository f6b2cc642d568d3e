"""The rules and alerts: every metric exists, every alert has been seen to fire and to be silent."""

from pathlib import Path

import pytest
import yaml

from tests.deploy.promql import OF_PROMETHEUS, exposed, grouped, metrics, selected

HOME = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
RULES = sorted((HOME / "rules").glob("*.yml"))
TESTS = sorted((HOME / "tests").glob("*.yml"))


def rules() -> list[dict]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in rules() if "record" in rule}


def known() -> dict[str, set[str]]:
    """Every name that an expression may use; of recorded ones, the labels that are left."""
    left = {name: grouped(rule["expr"]) - {"le", "replica"} | {"job"} for name, rule in RECORDED.items()}
    return {**exposed(), **OF_PROMETHEUS, **left}


def cases() -> list[dict]:
    return [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]


def test_the_configuration_is_good(promtool, tmp_path):
    key = tmp_path / "key"
    key.write_text("ck_x")
    text = (HOME / "prometheus.yml").read_text()
    assert "/run/secrets/metrics_key" in text
    copied = tmp_path / "prometheus.yml"
    copied.write_text(text.replace("/run/secrets/metrics_key", str(key)).replace("rules/*.yml", f"{HOME}/rules/*.yml"))
    status, told = promtool.run("check", "config", copied)
    assert status == 0, told
    assert f"{len(RULES)} rule files found" in told


def test_the_rules_are_good(promtool):
    status, told = promtool.run("check", "rules", *RULES)
    assert status == 0, told
    assert told.count("SUCCESS") == len(RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should_and_not_when_they_should_not(promtool, path):
    status, told = promtool.run("test", "rules", path.name, cwd=path.parent)
    assert status == 0, told


def test_every_alert_is_tested_firing_and_silent():
    seen: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for case in cases():
        for wanted in case["alert_rule_test"]:
            assert case["name"].startswith(f"{wanted['alertname']}: ")
            seen[wanted["alertname"]].add(bool(wanted["exp_alerts"]))
    assert {name for name, ways in seen.items() if ways != {True, False}} == set()


def test_the_unit_tests_see_an_alert_that_never_fires(promtool, tmp_path):
    """So that a passing test is worth something: the same tests over a rule with another bound."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    for path in (*RULES, *TESTS):
        (tmp_path / path.parent.name / path.name).write_text(path.read_text())
    broken = tmp_path / "rules" / "alerts.yml"
    text = broken.read_text()
    assert text.count("chorus_registry_age_seconds) > 30") == 1
    broken.write_text(text.replace("chorus_registry_age_seconds) > 30", "chorus_registry_age_seconds) > 3000"))
    status, told = promtool.run("test", "rules", "registry.yml", cwd=tmp_path / "tests")
    assert status != 0
    assert "ChorusRegistryAway" in told


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_and_label_of_a_rule_exists(rule):
    names = known()
    assert metrics(rule["expr"]) <= names.keys()
    for metric, labels in selected(rule["expr"]):
        assert labels <= names[metric], metric
    together = set.union(*(names[metric] for metric in metrics(rule["expr"])))
    assert grouped(rule["expr"]) <= together


def test_the_input_series_of_the_unit_tests_are_ones_that_the_service_exposes():
    names = known()
    for case in cases():
        for series in case["input_series"]:
            for metric, labels in selected(series["series"]):
                assert labels <= names[metric], series["series"]


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    for name, alert in ALERTS.items():
        assert name.startswith("Chorus"), name
        assert alert["labels"] == {"severity": "page"} or alert["labels"] == {"severity": "ticket"}, name
        assert set(alert["annotations"]) == {"summary", "description", "action"}, name


def test_everything_that_is_recorded_is_read():
    dashboard = (HOME.parent / "grafana" / "dashboards" / "chorus.json").read_text()
    texts = [dashboard, *(rule["expr"] for rule in rules())]
    assert {name for name in RECORDED if not any(name in text for text in texts)} == set()


def test_recorded_names_tell_their_level_metric_and_operation():
    for name in RECORDED:
        assert name.startswith("chorus:")
        assert name.count(":") == 2, name
