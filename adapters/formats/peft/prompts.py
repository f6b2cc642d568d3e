"""PEFT's prompt learning (prompt tuning, p-tuning, CPT, prefix tuning, Cartridges), saved as the vectors it arrived at.

`prompt_embeddings` is [tokens, width], or [tokens, layers * 2 * width] of keys and values; the head's keys begin with
`base_model.` here. Networks that the vectors were trained through (p-tuning's MLP or LSTM, a prefix's projection) are
not saved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adapters.errors import Misfit
from adapters.formats.peft.host import Host
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.manifest import PartSpec
from adapters.methods.prefix_tuning import DECODER, SHARED
from adapters.methods.prompt_tuning import BEFORE
from adapters.weights import Package

ROOT = "base_model."
VECTORS = "prompt_embeddings"
_SEGMENTED = ("SEQ_CLS", "TOKEN_CLS")  # the tasks whose models are given segment ids
_COMMON = (
    "num_virtual_tokens",
    "token_dim",
    "num_transformer_submodules",
    "num_attention_heads",
    "num_layers",
)


@dataclass(frozen=True)
class Prompts:
    """A tuner of vectors; `name` is its `peft_type`, `own` what else its configuration says of training."""

    name: str
    method: str
    tensor: str
    own: tuple[str, ...]
    task: str | None = None  # the only task type that it runs for

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Tuner.methods`."""
        return (self.method,)

    @property
    def settings(self) -> frozenset[str]:
        """See `Tuner.settings`."""
        return frozenset((*_COMMON, *self.own))

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`."""
        reasons = []
        if config.get("task_type") is None:
            reasons.append(f"{self.name} without a task_type: PEFT runs such a model without its vectors")
        elif self.task is not None and config["task_type"] != self.task:
            reasons.append(f"{self.name} is for the task {self.task} alone, not for {config['task_type']!r}")
        frozen, count = config.get("num_frozen_tokens"), config.get("num_virtual_tokens")
        most = count if isinstance(count, int) else 0
        if frozen is not None and (type(frozen) is not int or not 0 <= frozen <= most):
            reasons.append(f"num_frozen_tokens must be an integer from 0 to num_virtual_tokens, not {frozen!r}")
        return reasons

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`."""
        rest = {key: tensor for key, tensor in saved.tensors.items() if key != VECTORS}
        reasons += [f"{key} is no key of PEFT" for key in rest if not key.startswith(ROOT)]
        stacks = saved.config.get("num_transformer_submodules") or _stacks(saved.host)
        if stacks not in self._takes(saved.host):
            takes = " or ".join(map(str, self._takes(saved.host)))
            reasons.append(f"num_transformer_submodules must be {takes} for this backbone, not {stacks!r}")
            stacks = 1
        vectors = saved.tensors.get(VECTORS)
        count = saved.config.get("num_virtual_tokens")
        stored = stacks if self.method == "word_prompt" else 1
        if vectors is None or vectors.dim() != 2:
            reasons.append(f"the checkpoint lacks {VECTORS}")
        elif not isinstance(count, int) or vectors.shape[0] != stored * count:
            each = "" if stored == 1 else f" for each of {stored} stacks"
            reasons.append(f"num_virtual_tokens is {count}{each}, but {VECTORS} holds {vectors.shape[0]}")
        settings = {"length": count, "segments": saved.config.get("task_type") in _SEGMENTED}
        settings |= {} if stored == 1 else {"stacks": stored}
        tensors = {} if vectors is None else {self._tensor(saved.host): self._native(vectors)}
        return Found(
            (PartSpec(self.method, settings),), tensors, {key.removeprefix(ROOT): t for key, t in rest.items()}
        )

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`; raises `Misfit` where PEFT's models would see other segment ids."""
        manifest = package.manifest
        settings = manifest.parts[0].config
        heeded = manifest.head is not None and manifest.head.type != "question_answering"
        if host.family.segment_ids and settings["segments"] != heeded:
            raise Misfit(["PEFT heeds segment ids beside prompts for classification and tagging, and nowhere else"])
        stacks = _stacks(host) if self.method == "past_prefix" else settings.get("stacks", 1)
        rows = settings["length"] * settings.get("stacks", 1)
        vectors = package.tensors[self._tensor(host)].reshape(rows, -1)
        width = manifest.requires.hidden_size if self.method == "past_prefix" else vectors.shape[1]
        config = {
            "peft_type": self.name,
            "num_virtual_tokens": settings["length"],
            "token_dim": width,
            "num_transformer_submodules": stacks,
            "num_attention_heads": manifest.requires.heads,
            "num_layers": manifest.requires.layers - manifest.requires.encoder_layers,
        }
        return Written({VECTORS: vectors}, config, ROOT)

    def _takes(self, host: Host) -> tuple[int, ...]:
        """How many stacks a configuration may name; one of an encoder-decoder's is its encoder."""
        return (1, 2) if host.family.decoder is not None and self.method == "word_prompt" else (_stacks(host),)

    def _tensor(self, host: Host) -> str:
        """The native name of the vectors; a past is a decoder's."""
        past = self.method == "past_prefix" and host.family.decoder is not None
        return f"{DECODER}/control_trans" if past else self.tensor

    def _native(self, vectors: Tensor) -> Tensor:
        return vectors.reshape(-1) if self.method == "past_prefix" else vectors


def _stacks(host: Host) -> int:
    return 1 if host.family.decoder is None else 2


_TRAINING = ("prompt_tuning_init", "prompt_tuning_init_text", "prompt_tuning_init_token_ids", "tokenizer_name_or_path", "tokenizer_kwargs")  # fmt: skip
_NETWORK = ("encoder_reparameterization_type", "encoder_hidden_size", "encoder_num_layers", "encoder_dropout")
# The tokens that CPT (Blau et al. 2024, arXiv:2410.17222) starts from, and what bounded their changes in training.
_CONTEXT = ("cpt_token_ids", "cpt_mask", "cpt_tokens_type_mask", "opt_weighted_loss_type", "opt_loss_decay_factor", "opt_projection_epsilon", "opt_projection_format_epsilon")  # fmt: skip
_PROMPT = f"{BEFORE}/prompt"
PROMPT_TUNING = Prompts("PROMPT_TUNING", "word_prompt", _PROMPT, _TRAINING)
P_TUNING = Prompts("P_TUNING", "word_prompt", _PROMPT, _NETWORK)
CPT = Prompts("CPT", "word_prompt", _PROMPT, (*_CONTEXT, "tokenizer_name_or_path"), "CAUSAL_LM")
PREFIX_TUNING = Prompts(
    "PREFIX_TUNING",
    "past_prefix",
    f"{SHARED}/control_trans",
    ("encoder_hidden_size", "prefix_projection", "init_weights"),
)
# A Cartridge (Eyuboglu et al. 2025, arXiv:2506.06266) is run as a prefix; which of its tokens training left alone it knows
# by their number.
CARTRIDGE = Prompts("CARTRIDGE", PREFIX_TUNING.method, PREFIX_TUNING.tensor, ("num_frozen_tokens",))
