import pytest

from adapters.architectures.families import ARCHITECTURES, architecture_of
from adapters.errors import UnknownArchitecture


def test_records_are_found_by_their_own_model_type():
    assert all(architecture_of(name).model_type == name for name in ARCHITECTURES)


def test_an_unknown_family_is_refused_naming_those_that_exist():
    with pytest.raises(UnknownArchitecture, match="bert, distilbert, roberta"):
        architecture_of("gpt2")
