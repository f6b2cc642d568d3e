from adapters.formats.adapterhub.activations import activation, modernised


def test_an_old_name_means_its_new_function_only_without_a_version():
    assert activation("gelu", versioned=True) == "gelu"
    assert activation("gelu", versioned=False) == "gelu_new"
    assert activation("gelu_orig", versioned=False) == "gelu"
    assert activation("SWISH", versioned=True) == "swish"


def test_a_configuration_is_modernised_with_its_parts_and_the_original_stays():
    old = {"configs": [{"non_linearity": "gelu"}, {"r": 8}, 5], "non_linearity": "gelu_orig"}
    new = modernised(old)
    assert new == {"configs": [{"non_linearity": "gelu_new"}, {"r": 8}, 5], "non_linearity": "gelu"}
    assert old["configs"][0] == {"non_linearity": "gelu"}
    assert modernised({"non_linearity": None}) == {"non_linearity": None}
