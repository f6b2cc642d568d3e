"""The dashboard: every query is good PromQL over metrics that exist, and every metric can be seen somewhere."""

import json
from collections import Counter
from pathlib import Path

import yaml

from tests.deploy.promql import exposed, filled, grouped, metrics, selected
from tests.deploy.test_prometheus import known

HOME = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
DASHBOARD = json.loads((HOME / "dashboards" / "chorus.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = ["Traffic", "Latency", "Queue and fairness", "Cache tiers", "Batch mix", "Adapters", "Replicas"]

# metric -> why no panel shows it
UNSHOWN = {
    "chorus_process_virtual_memory_bytes": "what an allocator reserves says little; resident memory is shown",
}


def queries() -> list[tuple[str, str]]:
    """(where, PromQL) of all that the dashboard asks."""
    asked = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    asked += [(annotation["name"], annotation["expr"]) for annotation in DASHBOARD["annotations"]["list"]]
    return [(where, filled(expr)) for where, expr in asked]


def family(name: str) -> str:
    for ending in ("_bucket", "_sum", "_count"):
        name = name.removesuffix(ending)
    return name


def test_every_query_is_good_promql(promtool, tmp_path):
    rules = [{"record": f"dashboard:query:{i}", "expr": expr} for i, (_, expr) in enumerate(queries())]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    status, told = promtool.run("check", "rules", path)
    assert status == 0, told
    assert f"{len(rules)} rules found" in told


def test_every_query_names_metrics_and_labels_that_exist():
    names = known()
    for where, expr in queries():
        assert metrics(expr), where
        assert metrics(expr) <= names.keys(), where
        for metric, labels in selected(expr):
            assert labels <= names[metric], (where, metric)
        assert grouped(expr) <= set.union(*(names[metric] for metric in metrics(expr))), where


def test_every_metric_of_the_service_is_shown_or_has_a_reason_not_to_be():
    rules = [rule["expr"] for path in (HOME.parent / "prometheus" / "rules").glob("*.yml") for rule in _rules(path)]
    shown = {family(name) for expr in (*rules, *(expr for _, expr in queries())) for name in metrics(expr)}
    told = {family(name) for name in exposed()}
    assert told - shown == UNSHOWN.keys()


def test_the_variables_ask_for_metrics_that_exist():
    names = exposed()
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = filled(variable["query"]["query"]).removeprefix("label_values(").removesuffix(")")
            metric, _, label = asked.rpartition(",")
            assert label.strip() in names[next(iter(metrics(metric)))], variable["name"]


def test_every_panel_is_told_and_reads_the_chosen_source():
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for what in ("id", "title"):
        counted = Counter(panel[what] for panel in DASHBOARD["panels"])
        assert max(counted.values()) == 1, counted.most_common(1)


def test_no_panel_lies_over_another():
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for place in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert place not in taken, (panel["title"], taken.get(place))
            taken[place] = panel["title"]


def test_shares_are_percentages_seconds_are_seconds_and_bytes_are_bytes():
    for panel in PANELS:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            if "ratio_rate" in target["expr"] or "share_rate" in target["expr"]:
                assert unit == "percentunit", panel["title"]
            if "histogram_quantile" in target["expr"]:
                assert (unit == "s") == ("_seconds_bucket" in target["expr"]), panel["title"]


def test_the_provisioning_leads_to_the_dashboard_and_the_source():
    (source,) = yaml.safe_load((HOME / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    scrape = yaml.safe_load((HOME.parent / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
    (provider,) = yaml.safe_load((HOME / "provisioning/dashboards/chorus.yml").read_text())["providers"]
    compose = yaml.safe_load((HOME.parent / "compose.yaml").read_text())
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    assert "/etc/grafana/provisioning" in mounted


def _rules(path: Path) -> list[dict]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
