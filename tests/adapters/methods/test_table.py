from adapters.methods.table import ATTENTION, EMBEDDING, JUNCTION, LINEAR, METHODS


def test_methods_are_filed_under_their_own_names():
    for table in (METHODS, LINEAR, JUNCTION, ATTENTION, EMBEDDING):
        assert all(method.name == name for name, method in table.items())


def test_an_invertible_adapter_runs_before_a_prompt_is_put_in():
    order = list(METHODS)
    assert order.index("invertible") < order.index("prompt_tuning")
