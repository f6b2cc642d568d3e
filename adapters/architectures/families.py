"""The table of families, by the `model_type` of a `config.json`."""

from collections.abc import Mapping

from adapters.architectures.albert import ALBERT
from adapters.architectures.deberta import DEBERTA_V2
from adapters.architectures.decoders import GPT2, LLAMA, MISTRAL, QWEN2, QWEN3
from adapters.architectures.encoders import BERT, DISTILBERT, ELECTRA, ROBERTA, XLM_ROBERTA
from adapters.architectures.modernbert import MODERNBERT
from adapters.architectures.record import Architecture
from adapters.architectures.seq2seq import BART, MBART, MT5, T5
from adapters.architectures.vision import VIT
from adapters.errors import UnknownArchitecture

FAMILIES = (
    BERT,
    ROBERTA,
    XLM_ROBERTA,
    ELECTRA,
    DISTILBERT,
    ALBERT,
    DEBERTA_V2,
    MODERNBERT,
    GPT2,
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    VIT,
    T5,
    MT5,
    BART,
    MBART,
)
ARCHITECTURES: Mapping[str, Architecture] = {record.model_type: record for record in FAMILIES}


def architecture_of(model_type: str) -> Architecture:
    """The record of a family; raises `UnknownArchitecture` naming those that exist."""
    try:
        return ARCHITECTURES[model_type]
    except KeyError:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UnknownArchitecture(f"no record for model type {model_type!r}; there are records for {known}") from None
