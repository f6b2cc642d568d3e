import pytest

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.peft.modules import is_feed_forward, modules, of_pattern, targeted

QUERY = "bert.encoder.layer.1.attention.self.query"
DENSE = "bert.encoder.layer.11.output.dense"


def test_modules_are_the_family_s_linear_maps():
    found = modules(ARCHITECTURES["distilbert"], 2)
    assert found["transformer.layer.1.ffn.lin2"] == Address(1, "ffn_out")
    assert len(found) == 12
    assert modules(ARCHITECTURES["bert"], 1)["pooler.dense"] == Address(None, "pooler")


def test_a_fused_map_is_one_module_of_peft_s():
    found = modules(ARCHITECTURES["modernbert"], 1)
    assert set(found) == {f"layers.0.{path}" for path in ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")}
    assert found["layers.0.attn.Wqkv"] == Address(0, "attn_qkv")


@pytest.mark.parametrize(
    ("config", "path", "expected"),
    [
        ({"target_modules": ["query"]}, QUERY, True),
        ({"target_modules": ["uery"]}, QUERY, False),
        ({"target_modules": [QUERY]}, QUERY, True),
        ({"target_modules": ["self.query", "dense"]}, DENSE, True),
        ({"target_modules": r".*layer\.1\..*query"}, QUERY, True),
        ({"target_modules": r"layer\.1\..*query"}, QUERY, False),
        ({"target_modules": "all-linear"}, DENSE, True),
        ({"target_modules": None}, QUERY, False),
        ({"target_modules": ["query"], "exclude_modules": ["layer.1.attention.self.query"]}, QUERY, False),
        ({"target_modules": ["query"], "exclude_modules": r".*layer\.1\..*"}, QUERY, False),
        ({"target_modules": ["query"], "exclude_modules": r"layer\.1"}, QUERY, True),
        ({"target_modules": ["dense"], "modules_to_save": ["pooler"]}, "bert.pooler.dense", False),
        ({"target_modules": ["dense"], "modules_to_save": ["pool"]}, "bert.pooler.dense", True),
        ({"target_modules": ["query"], "layers_to_transform": [1]}, QUERY, True),
        ({"target_modules": ["query"], "layers_to_transform": 0}, QUERY, False),
        ({"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": "layer"}, DENSE, False),
        ({"target_modules": ["dense"], "layers_to_transform": [11], "layers_pattern": ["h", "layer"]}, DENSE, True),
        ({"target_modules": ["dense"], "layers_to_transform": [11], "layers_pattern": "h"}, DENSE, False),
        ({"target_modules": ["dense"], "layers_to_transform": [1]}, "bert.pooler.dense", False),
        ({"target_modules": ["query"], "layers_to_transform": []}, QUERY, True),
        # what is named in full is adapted in whatever layer it is
        ({"target_modules": [QUERY], "layers_to_transform": [0]}, QUERY, True),
        # the first number counts, and the default pattern wants something before the name of the layers
        ({"target_modules": ["b"], "layers_to_transform": [0]}, "a.groups.0.layers.1.b", True),
        (
            {"target_modules": ["b"], "layers_to_transform": [0], "layers_pattern": "layers"},
            "a.groups.0.layers.1.b",
            False,
        ),
        ({"target_modules": ["b"], "layers_to_transform": [0]}, "layers.0.b", False),
        ({"target_modules": ["b"], "layers_to_transform": [0], "layers_pattern": "layers"}, "layers.0.b", True),
    ],
)
def test_targets_match_as_peft_matches_them(config, path, expected):
    assert targeted(config, path) is expected


@pytest.mark.parametrize(
    ("patterns", "path", "value"),
    [
        ({"query": 3}, QUERY, 3),
        ({"layer.1.attention.self.query": 3}, QUERY, 3),
        ({"ery": 3}, QUERY, 0),
        ({"layer.1": 3}, QUERY, 0),
        ({r"layer\.\d+\.output\.dense": 3, "dense": 4}, DENSE, 3),
        ({"^query": 3}, QUERY, 0),
        (None, QUERY, 0),
    ],
)
def test_the_first_pattern_that_matches_the_end_wins(patterns, path, value):
    assert of_pattern(patterns, path, 0) == value


@pytest.mark.parametrize(
    ("patterns", "path", "value"),
    [
        ({"query": 3}, QUERY, 3),
        ({"dense": 3}, "dense", 3),  # letter by letter
        ({".*dense": 3}, "dense", 0),
        ({r".*\.1\..*": 3}, "layers.1.fc1", 0),
        ({r".*\.1\..*": 3}, "encoder.layers.1.fc1", 3),
        ({"fc1|x": 3}, "layers.1.fc1.y", 3),  # the first half need not end the path
        (None, QUERY, 0),
    ],
)
def test_older_tuners_want_something_in_front_of_a_pattern(patterns, path, value):
    assert of_pattern(patterns, path, 0, below=True) == value


def test_feed_forward_modules():
    assert is_feed_forward({"feedforward_modules": ["output.dense"]}, DENSE)
    assert not is_feed_forward({"feedforward_modules": ["output.dense"]}, QUERY)
    assert is_feed_forward({"feedforward_modules": r".*\.dense"}, DENSE)
    assert not is_feed_forward({"feedforward_modules": None}, DENSE)


def test_patterns_that_are_no_expressions_are_refused():
    with pytest.raises(Misfit):
        targeted({"target_modules": "("}, QUERY)
    with pytest.raises(Misfit):
        targeted({"target_modules": 5}, QUERY)
    with pytest.raises(Misfit):
        of_pattern({"(": 1}, QUERY, 0)
    with pytest.raises(Misfit):
        is_feed_forward({"feedforward_modules": "("}, QUERY)
