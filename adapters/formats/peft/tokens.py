"""PEFT's trainable tokens: the rows of the table of word vectors that stand in the place of the backbone's.

A tuner of their own, or beside a LoRA (`trainable_token_indices`), which wraps the table once more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.modules import targeted
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.manifest import HeadSpec, PartSpec
from adapters.methods.word_rows import WORDS
from adapters.weights import Package

_ROWS = f"{WORDS}/rows"
_KEY = "trainable_tokens_delta"
_STACKS = ("encoder", "decoder")  # of an encoder-decoder, whose tables hold the rows once more
BESIDE = f"token_adapter.{_KEY}"  # where the rows stand beside a LoRA


@dataclass(frozen=True)
class TrainableTokens:
    """The tuner."""

    methods: tuple[str, ...] = ("word_rows",)
    settings: frozenset[str] = frozenset(("token_indices", "init_weights"))

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`."""
        return []

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`."""
        path = saved.host.words
        rest = {key.removeprefix(ROOT): tensor for key, tensor in saved.tensors.items()}
        rows = rest.pop(f"{path}.{_KEY}", None)
        for stack in _STACKS if saved.host.family.decoder is not None else ():
            key = f"{saved.host.path(stack)}.embed_tokens.{_KEY}"
            copy = rest.pop(key, None)
            if copy is not None and (rows is None or not torch.equal(copy, rows)):
                reasons.append(f"{key} differs from {path}.{_KEY}, which both stacks read")
        if rows is None:
            reasons.append(f"the checkpoint lacks {path}.{_KEY}")
        elif saved.config.get("target_modules") is not None and not targeted(saved.config, path):
            reasons.append(f"{path} is adapted, but target_modules does not name it")
        part = PartSpec("word_rows", {"tokens": saved.config.get("token_indices")})
        return Found((part,), {} if rows is None else {_ROWS: rows}, rest)

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`; raises `Misfit` for a whole table."""
        tokens = package.manifest.parts[0].config["tokens"]
        if tokens is None:
            raise Misfit(["PEFT's trainable tokens are some rows of the table of word vectors, not all of them"])
        config = {"peft_type": "TRAINABLE_TOKENS", "target_modules": [host.words], "token_indices": list(tokens)}
        return Written({f"{ROOT}{host.words}.{_KEY}": package.tensors[_ROWS]}, config)


TRAINABLE_TOKENS = TrainableTokens()
_SILENT = ("FEATURE_EXTRACTION", "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")  # tasks without the head over the vocabulary
_TIED_NAME = "embed_tokens"  # a table of another name is tied to nothing
_WHOLE_TIED = (
    "ensure_weight_tying lets what is learned of {path} count in the head over the vocabulary too, which is served for"
    " trainable_token_indices alone"
)
_TIED = (
    "trained tokens beside a saved head over the vocabulary, which PEFT ties to them, are not served: train them under"
    " the backbone's own head"
)


def beside(config: Mapping[str, Any], rows: Tensor | None, host: Host, reasons: list[str]) -> Found:
    """The part of the trained rows beside another tuner's tensors."""
    said = config.get("trainable_token_indices")
    if said is None:
        if rows is not None:
            reasons.append(f"{host.words} holds trained tokens, but trainable_token_indices does not name them")
        return Found((), {}, {})
    chosen = said if isinstance(said, Mapping) else {host.words: said}
    named = [tokens for name, tokens in chosen.items() if host.words == name or host.words.endswith(f".{name}")]
    if len(chosen) != 1 or len(named) != 1:
        reasons.append(f"trainable_token_indices names {', '.join(chosen)}, of which only {host.words} is served")
    elif rows is None:
        reasons.append(f"the checkpoint lacks {host.words}.{BESIDE}")
    else:
        return Found((PartSpec("word_rows", {"tokens": named[0]}),), {_ROWS: rows}, {})
    return Found((), {}, {})


def tied_head(head: HeadSpec | None, parts: Sequence[PartSpec]) -> list[str]:
    """Why trained rows beside a head of their own over the vocabulary are refused, where the backbone ties the two.

    PEFT trains the rows of both as one; under the backbone's own head they count so here (`HeadSpec.tied`).
    """
    trained = any(part.method == "word_rows" and part.config["tokens"] is not None for part in parts)
    return [_TIED] if trained and head is not None and head.vocabulary is not None else []


def tied_words(config: Mapping[str, Any], stored: Mapping[str, Tensor], host: Host) -> list[str]:
    """Why a table of words that `ensure_weight_tying` ties to others is refused, of a backbone that ties them.

    The folder holds the table alone; under the head over the vocabulary, and in both stacks of an encoder-decoder, PEFT
    lets what is learned of it count once more.
    """
    if config.get("ensure_weight_tying") is not True:
        return []
    alone = config.get("task_type") in _SILENT and host.family.decoder is None
    paths = {*host.word_tables, host.words}
    named = sorted({key.removeprefix(ROOT).rpartition(".")[0] for key in stored if _KEY not in key} & paths)
    tied = named and not alone and (host.family.decoder is not None or host.words.endswith(_TIED_NAME))
    return [_WHOLE_TIED.format(path=named[0])] if tied else []


def write_beside(part: PartSpec, package: Package, host: Host) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and settings of rows beside another tuner's."""
    if part.config["tokens"] is None:
        tables = host.word_tables.items()
        return {f"{ROOT}{path}.weight": package.tensors[f"{address}/rows"] for path, address in tables}, {}
    rows = package.tensors[_ROWS]
    said = {"trainable_token_indices": {host.words: list(part.config["tokens"])}}
    return {f"{ROOT}{host.words}.{BESIDE}": rows}, said
