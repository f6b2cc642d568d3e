import pytest

from adapters.formats.peft import folder as peft
from tests.adapters.formats.folders import profile
from tests.adapters.formats.peft.reading import basic, reasons


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "XLORA"}, "draws another at every load; serve its LoRAs as they are, or averaged"),
        ({"peft_type": "SHADOW"}, "a second transformer beside the backbone"),
        ({"peft_type": "NEWEST"}, "PEFT's method 'NEWEST' is not served yet"),
        ({"use_dora": True}, "use_dora is True, but the checkpoint says otherwise"),
        ({"bias": "some"}, "bias='some'"),
        ({"peft_type": "IA3", "r": None, "lora_alpha": None, "bias": "all"}, "bias='all'"),
        ({"peft_type": "OFT", "r": 0, "lora_alpha": None, "bias": "boft_only"}, "bias='boft_only'"),
        ({"layer_replication": [[0, 9]]}, "layer_replication must be a list of ranges"),
        ({"trainable_token_indices": [1]}, "lacks bert.embeddings.word_embeddings.token_adapter"),
        ({"trainable_token_indices": {"position_embeddings": [1]}}, "of which only bert.embeddings.word_embeddings"),
        ({"target_parameters": ["x"]}, "target_parameters names x, which is the weight of no map"),
        ({"target_parameters": "x"}, "target_parameters must be a list of names, not 'x'"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"task_type": "QUESTION_ANS"}, "the head lacks qa_outputs.weight"),
        ({"task_type": "CAUSAL_LM", "kasa_config": {"x": 1}}, "KaSA"),
        ({"task_type": None}, "head"),
        ({"task_type": "FEATURE_EXTRACTION"}, "classifier.bias belongs to no part"),
        ({"r": 4}, "rank 2, but adapter_config.json says 4"),
        ({"lora_alpha": "x"}, "lora_alpha"),
        ({"target_modules": ["query"]}, "target_modules does not name it"),
        ({"target_modules": ["query", "value", "key"]}, "lacks bert.encoder.layer.0.attention.self.key"),
        ({"target_modules": "("}, "the pattern '(' of adapter_config.json is no regular expression"),
        ({"target_modules": 5}, "a module pattern of adapter_config.json can not be read"),
        ({"modules_to_save": "classifier"}, "modules_to_save must be a list of names, not 'classifier'"),
        ({"modules_to_save": ["classifier", 1]}, "modules_to_save must be a list of names"),
        ({"peft_type": ["LORA"]}, "PEFT's method ['LORA'] is not served"),
        ({"task_type": {}}, "the task {} is not served"),
        ({"rank_pattern": "x"}, "rank_pattern must be an object, not 'x'"),
        ({"alpha_pattern": [1]}, "alpha_pattern must be an object, not [1]"),
        ({"task_type": None, "auto_mapping": ["x"]}, "auto_mapping must be an object"),
        ({"use_rslora": "no"}, "use_rslora must be true or false, not 'no'"),
        (
            {"peft_type": "IA3", "r": None, "lora_alpha": None, "feedforward_modules": 5},
            "feedforward_modules must be a list or a text, not 5",
        ),
    ],
)
def test_what_is_not_served_or_contradicts_the_tensors_is_refused(tmp_path, changes, message):
    assert any(message in reason for reason in reasons(basic(tmp_path, **changes)))


def test_a_setting_that_nobody_knows_is_refused_unless_it_is_off(tmp_path):
    (reason,) = reasons(basic(tmp_path / "on", new_trick={"a": 1}))
    assert "'new_trick' is not known" in reason
    assert peft.read(basic(tmp_path / "off", new_trick=False), profile())


def test_a_setting_of_another_tuner_is_not_known(tmp_path):
    (reason,) = reasons(basic(tmp_path, feedforward_modules=["dense"]))
    assert "'feedforward_modules' is not known" in reason
