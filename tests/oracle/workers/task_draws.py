"""PEFT's tuners that do not run on every model, or are told a task with every row: what is drawn of their settings."""

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from peft_hosts import DECODERS, SECOND


class Bound(NamedTuple):
    """Its configuration, its settings, and the families and tasks that the library runs it on."""

    sort: str
    settings: Callable[[random.Random], dict[str, Any]]
    families: tuple[str, ...]
    tasks: tuple[str, ...]


def _poly(rng: random.Random) -> dict[str, Any]:
    return {
        "r": rng.choice((1, 2, 4)),
        "n_tasks": rng.choice((1, 2, 5)),
        "n_skills": rng.choice((1, 3, 4)),
        "n_splits": rng.choice((1, 2, 4)),
    }


def _multitask(rng: random.Random) -> dict[str, Any]:
    return {
        "num_virtual_tokens": rng.choice((1, 3, 6)),
        "num_ranks": rng.choice((1, 2, 4)),
        "num_tasks": rng.choice((1, 2, 5)),
    }


def _cpt(rng: random.Random) -> dict[str, Any]:
    count = rng.choice((2, 4, 7))
    return {
        "cpt_token_ids": [rng.randrange(5, 60) for _ in range(count)],
        "cpt_tokens_type_mask": [rng.choice((1, 2, 3, 4)) for _ in range(count)],
        "opt_projection_epsilon": rng.choice((0.1, 5.0)),
    }


def _adaption(rng: random.Random) -> dict[str, Any]:
    return {"adapter_len": rng.choice((1, 4, 7)), "adapter_layers": rng.choice((0, 1, 2))}


_WHOLE = ("SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM")
_ENCODERS = ("bert", "roberta", "xlm-roberta")
# Poly replaces maps of torch alone, which GPT-2's are not, and DeBERTa gives it rows that are none. Beside multitask
# prompts the library needs the width of words to be that of layers, under the name that most configurations have; its
# models for features and questions do not hand the task on.
BOUND: Mapping[str, Bound] = {
    "poly": Bound(
        "PolyConfig",
        _poly,
        (*_ENCODERS, "electra", "distilbert", "albert", *DECODERS[1:], *SECOND),
        (*_WHOLE, "FEATURE_EXTRACTION", "QUESTION_ANS", "SEQ_2_SEQ_LM"),
    ),
    "multitask": Bound("MultitaskPromptTuningConfig", _multitask, (*_ENCODERS, *DECODERS), _WHOLE),
    # It saves no head.
    "adaption": Bound(
        "AdaptionPromptConfig", _adaption, ("gpt2", "llama", "mistral"), ("FEATURE_EXTRACTION", "CAUSAL_LM")
    ),
    "cpt": Bound("CPTConfig", _cpt, DECODERS, ("CAUSAL_LM",)),
}
PROMPTS = ("multitask", "cpt")


def task_id(rng: random.Random, config: Any) -> int | None:
    """One of the tasks that a configuration counts; None where it counts none."""
    count = getattr(config, "n_tasks", getattr(config, "num_tasks", None))
    return None if count is None else rng.randrange(count)
