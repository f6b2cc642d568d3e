"""PEFT's multitask prompt tuning: the prompt that tasks share, and each one's own columns and rows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adapters.formats.peft.host import Host
from adapters.formats.peft.prompts import PROMPT_TUNING, Prompts
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.manifest import PartSpec
from adapters.methods.prompt_tuning import BEFORE
from adapters.weights import Package

_OWN = {"prefix_task_cols": f"{BEFORE}/columns", "prefix_task_rows": f"{BEFORE}/rows"}
_TRAINING = ("prompt_tuning_init_state_dict_path", "prompt_tuning_init_task")
_SHARED = Prompts("MULTITASK_PROMPT_TUNING", "multitask_prompt", PROMPT_TUNING.tensor, (*PROMPT_TUNING.own, *_TRAINING))


class MultitaskPrompts:
    """The tuner; what tasks share is stored as prompt tuning stores it."""

    methods = _SHARED.methods
    settings = _SHARED.settings | {"num_tasks", "num_ranks"}

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`."""
        return _SHARED.refused(config)

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`; the part names the task that was asked for, and holds the tensors of all."""
        own = {key: tensor for key, tensor in saved.tensors.items() if key in _OWN}
        reasons += [f"the checkpoint lacks {key}" for key in _OWN if key not in own]
        rest = {key: tensor for key, tensor in saved.tensors.items() if key not in own}
        found = _SHARED.read(replace(saved, tensors=rest), reasons)
        (part,) = found.parts
        ranks = saved.config.get("num_ranks")
        said = {"ranks": 1 if ranks is None else ranks, "tasks": saved.task.count, "task": saved.task.number}
        tensors = {**found.tensors, **{_OWN[key]: tensor for key, tensor in own.items()}}
        return Found((PartSpec(part.method, {**part.config, **said}),), tensors, found.rest)

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`; raises `Misfit` as prompt tuning does."""
        shared, said = _SHARED.write(package, host), package.manifest.parts[0].config
        assert shared.config is not None, "a prompt's configuration follows from its part"
        own = {key: package.tensors[native] for key, native in _OWN.items()}
        config = {**shared.config, "num_tasks": said["tasks"], "num_ranks": said["ranks"]}
        return replace(shared, tensors={**shared.tensors, **own}, config=config)


MULTITASK_PROMPT_TUNING = MultitaskPrompts()
