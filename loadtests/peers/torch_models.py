"""What the libraries on torch share: the plain model in its precision, and runs over batches of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from loadtests.peers.contenders import BF16, FP32
from loadtests.peers.messages import Work
from loadtests.peers.padding import Batch
from loadtests.peers.runs import Run, States, over

DTYPES: Mapping[str, torch.dtype] = {FP32: torch.float32, BF16: torch.bfloat16}
Inputs = Mapping[str, Tensor]


def plain_model(work: Work, precision: str = "") -> Any:
    """transformers' model with its own choice of attention, without the pooler, which nobody here uses.

    Its precision is that of the work where none is named.
    """
    torch.set_num_threads(work.threads)
    dtype = DTYPES[precision or work.precision]
    model: nn.Module = AutoModel.from_pretrained(work.backbone, local_files_only=True, dtype=dtype)
    setattr(model, "pooler", None)  # noqa: B010  # a None is no Module, which a plain assignment is typed as
    for tensor in (*model.parameters(), *model.buffers()):
        # Weights of a safetensors file are pages of that file, which the system drops while others compute.
        tensor.data = tensor.data.clone()
    return model.eval()


def run_of(batches: Sequence[Batch], forward: Callable[[int, Inputs], Any], note: str = "") -> Run:
    """A run over batches whose tensors are made beforehand; `forward` gets the number of a batch and its inputs."""
    inputs = [
        {"input_ids": torch.from_numpy(batch.ids), "attention_mask": torch.from_numpy(batch.mask)} for batch in batches
    ]

    def one(number: int) -> Any:
        with torch.inference_mode():
            return forward(number, inputs[number])

    return over(batches, one, _states, note)


def _states(output: Any) -> States:
    found: States = output.last_hidden_state.float().numpy()
    return found
