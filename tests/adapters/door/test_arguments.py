import pytest

from adapters.door.arguments import labels_of, labels_to_load, refuse


def test_what_is_not_given_is_not_refused():
    refuse("load_adapter", version=None, custom_weights_loaders=[], leave_out=None)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("version", "revision after the repository"),
        ("model_name", "a folder says itself"),
        ("custom_weights_loaders", "only what the formats know"),
        ("leave_out", "skip_layers"),
        ("meta_dict", "a file of your own"),
        ("use_safetensors", "use_safetensors=True"),
    ],
)
def test_what_is_given_is_refused_with_its_remedy(name, remedy):
    with pytest.raises(TypeError, match=f"some_verb takes no {name}: .*{remedy}"):
        refuse("some_verb", **{name: "x"})


def test_labels_come_in_the_order_of_their_ids():
    assert labels_of({1: "b", 0: "a"}, 2) == ("a", "b")
    assert labels_of(None, 2) is None
    for wrong in ({1: "a", 2: "b"}, {0: "a"}, {0: "a", 1: "b", 2: "c"}):
        with pytest.raises(ValueError, match="labels 0 to 1"):
            labels_of(wrong, 2)


def test_labels_are_given_in_one_way():
    assert labels_to_load(None, None) is None
    assert labels_to_load(None, ["x"]) == ["x"]
    assert labels_to_load({1: "b", 0: "a"}, None) == ("a", "b")
    with pytest.raises(ValueError, match="give one of them"):
        labels_to_load({0: "a"}, ["a"])


def test_safetensors_are_what_is_written_anyway():
    refuse("save_adapter", use_safetensors=True)
    with pytest.raises(TypeError, match="save_adapter takes no use_safetensors=False: no pickle is ever written"):
        refuse("save_adapter", use_safetensors=False)
