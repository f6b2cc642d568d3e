import pytest

from adapters.errors import Misfit
from serving.commands import tables
from serving.errors import Fault, Unprocessable


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_sizes_are_told_in_the_largest_fitting_unit(nbytes, text):
    assert tables.size(nbytes) == text


def test_an_error_is_told_once_with_its_places_and_the_request(capsys):
    error = Unprocessable("two faults", faults=(Fault("/a", "first"), Fault("/b", "second")))
    error.add_note("request req_1")
    tables.complain(error)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["error: two faults", "  /a  first", "  /b  second", "  request req_1"]


def test_a_fault_that_repeats_the_message_only_adds_its_pointer(capsys):
    tables.complain(Unprocessable("wrong", pointer="/a"))
    assert capsys.readouterr().err.splitlines() == ["error: wrong", "  /a"]


def test_brackets_in_names_and_errors_are_text_not_markup(capsys):
    tables.complain(Misfit(["[red]x[/red]"]))
    tables.table(("A",), [("[bold]b",)])
    tables.done("[link]c")
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["error: [red]x[/red]"]
    assert [line.rstrip() for line in captured.out.splitlines()] == ["A", "[bold]b", "[link]c"]
