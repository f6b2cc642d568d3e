import pytest

from adapters.architectures.families import ARCHITECTURES, FAMILIES, architecture_of
from adapters.errors import UnknownArchitecture


def test_records_are_found_by_their_own_model_type():
    assert all(architecture_of(name).model_type == name for name in ARCHITECTURES)


def test_an_unknown_family_is_refused_naming_those_that_exist():
    with pytest.raises(
        UnknownArchitecture,
        match="albert, bart, bert, deberta-v2, distilbert, electra, gpt2, llama, mbart, mistral, modernbert, mt5, qwen2",
    ):
        architecture_of("gptj")


def test_heads_are_written_for_the_class_that_adapterhub_loads_them_into():
    assert {name: record.hub_class for name, record in ARCHITECTURES.items()} == {
        "bert": "BertAdapterModel",
        "roberta": "RobertaAdapterModel",
        "xlm-roberta": "XLMRobertaAdapterModel",
        "electra": "ElectraAdapterModel",
        "distilbert": "DistilBertAdapterModel",
        "albert": "AlbertAdapterModel",
        "deberta-v2": "DebertaV2AdapterModel",
        "modernbert": "ModernBertModel",
        "gpt2": "GPT2AdapterModel",
        "llama": "LlamaAdapterModel",
        "mistral": "MistralAdapterModel",
        "qwen2": "Qwen2Model",
        "qwen3": "Qwen3Model",
        "vit": "ViTAdapterModel",
        "t5": "T5AdapterModel",
        "mt5": "MT5AdapterModel",
        "bart": "BartAdapterModel",
        "mbart": "MBartAdapterModel",
    }


def test_no_two_records_are_for_one_model_type():
    assert len(FAMILIES) == len(ARCHITECTURES) == 18
