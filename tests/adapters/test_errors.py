import inspect

from adapters import errors


def classes():
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


def test_the_drawn_tree_names_every_error_once():
    assert errors.__doc__ is not None
    drawn = [
        line.replace("│", " ").replace("├──", "").replace("└──", "").split() for line in errors.__doc__.splitlines()
    ]
    names = [words[0] for words in drawn if words and words[0].isidentifier()]
    assert all(names.count(c.__name__) == 1 for c in classes())


def test_every_error_is_an_adapter_error_and_says_when_it_is_raised():
    assert all(issubclass(c, errors.AdapterError) and c.__doc__ for c in classes())


def test_the_rows_of_a_batch_carry_a_reason_each_and_name_every_reason_once():
    long, odd = errors.InvalidRow("too long"), errors.InvalidArrangement("no sum")
    batch = errors.InvalidRows({1: long, 3: odd, 4: errors.InvalidRow("too long")})
    assert isinstance(batch, errors.InvalidRow)
    assert (batch.faults[1], batch.faults[3]) == (long, odd)
    assert str(batch) == "too long; no sum"


def test_a_misfit_carries_every_reason():
    misfit = errors.Misfit(["one", "two"])
    assert misfit.reasons == ("one", "two")
    assert str(misfit) == "one; two"
