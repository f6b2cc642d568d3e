"""What is read out of an expression."""

import pytest

from tests.deploy.promql import exposed, filled, grouped, metrics, selected


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("up", {"up"}),
        ('sum by (job, le) (rate(a_bucket{le="0.5", x=~"b_c|d{1}"}[5m])) > 0.5', {"a_bucket"}),
        ("a:b:c_rate5m / on (job) group_left () (sum(b) > 0)", {"a:b:c_rate5m", "b"}),
        ("time() - start_seconds unless absent(other)", {"start_seconds", "other"}),
        ("0 * sum(a) or 1e3 - b offset 5m", {"a", "b"}),
        ("histogram_quantile(0.99, sum by (le) (rate(c[5m])))", {"c"}),
    ],
)
def test_the_metrics_of_an_expression(query, names):
    assert metrics(query.replace("offset 5m", "offset 5")) == names


def test_the_labels_of_an_expression():
    query = 'sum by (job, tier) (rate(a{tier!="x", job=~"y=z"}[5m])) / on (job) b{tenant="c"}'
    assert dict(selected(query)) == {"a": {"tier", "job"}, "b": {"tenant"}}
    assert grouped(query) == {"job", "tier"}


def test_a_variable_that_is_not_known_is_found():
    assert filled('a{job="$job"}[$__rate_interval]') == 'a{job="chorus"}[5m]'
    with pytest.raises(AssertionError):
        filled("$nope")


def test_all_of_both_kinds_of_process_is_exposed():
    names = exposed()
    assert names["chorus_tenant_refusals_total"] == {"tenant", "reason", "replica", "job", "instance"}
    assert {"chorus_batch_rows_bucket", "chorus_engines", "chorus_leases", "chorus_process_open_fds"} <= names.keys()
