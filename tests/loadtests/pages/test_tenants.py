from loadtests.pages.tenants import applies, draw
from loadtests.scenarios.steps import steps_of
from tests.loadtests.fake import phased_run, plain_run, run_of, scenario, steady, take_of
from tests.loadtests.pages.pictured import line, panels, words


def test_it_is_for_several_tenants():
    assert applies(phased_run())
    assert not applies(plain_run())


def test_each_tenants_rows_along_time_and_its_waits_quiet_and_busy():
    run = phased_run()
    along, waits = panels(draw, run)
    assert max(line(along, "calm")[1]) == 20
    assert max(line(along, "loud")[1]) == 40
    medians = [drawn.get_ydata()[0] for drawn in waits.get_lines() if drawn.get_marker() == "o"]
    assert [round(float(wait)) for wait in medians] == [10, 20, 30]  # calm quiet, calm busy, loud busy
    assert words(draw, run).count("busy") == 2


def test_no_tenant_is_left_out_where_there_are_more_than_colours():
    names = [f"tenant-{number}" for number in range(9)]
    held = scenario(tenants=[{"name": name} for name in names])
    (step,) = steps_of(held)
    run = run_of(held, [take_of(step, [one for name in names for one in steady(5, 12, tenant=name)])])
    along, waits = panels(draw, run)
    assert [drawn.get_label() for drawn in along.get_lines()] == names
    assert len(waits.get_xticklabels()) == 9


def test_without_phases_a_tenant_has_one_bar_and_weights_are_named():
    held = scenario(tenants=[{"name": "a", "weight": 4.0}, {"name": "b"}])
    (step,) = steps_of(held)
    run = run_of(held, [take_of(step, steady(10, 12, tenant="a") + steady(10, 12, tenant="b"))])
    told = words(draw, run)
    assert "a (weight 4)" in told
    assert "busy" not in told
