"""How a frozen model comes from its folder: read, rounded to a storage type, and its maps put on the quickest path."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, GenerationConfig, PreTrainedConfig
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME
from transformers.utils.logging import disable_progress_bar

from adapters.architectures.profile import BackboneProfile
from adapters.architectures.record import AttentionKind
from adapters.batch.attention import PACKED
from adapters.batch.inject import register_attention
from adapters.errors import UnknownArchitecture
from adapters.kernels.dense import FrozenMap

# What transformers is told of each kind of attention; a disentangled one is put in the place of the model's own.
IMPLEMENTATIONS: Mapping[AttentionKind, str] = {"interface": PACKED, "disentangled": "eager"}


def load_model(folder: Path, profile: BackboneProfile, device: str, dtype: torch.dtype) -> nn.Module:
    """The model of a Hugging Face folder, frozen, still on the host; raises `UnknownArchitecture` for absent weights."""
    architecture = profile.geometry.architecture
    register_attention()
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    disable_progress_bar()
    model, found = AutoModel.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        attn_implementation=IMPLEMENTATIONS[architecture.attention_kind],
        dtype=torch.promote_types(dtype, torch.float32) if device == "cpu" else dtype,
        output_loading_info=True,
    )
    pooler = f"{architecture.pooler}."
    absent = sorted(name for name in found["missing_keys"] if not name.startswith(pooler))
    if absent:
        raise UnknownArchitecture(f"the checkpoint in {folder} lacks {', '.join(absent)}")
    loaded: nn.Module = model.eval().requires_grad_(requires_grad=False)
    _round(loaded, dtype)
    return loaded


def generation_settings(config: PreTrainedConfig) -> GenerationConfig:
    """What `generate` goes by where a call is silent: the model's `generation_config.json`, else its `config.json`.

    `config` is that of a loaded model, which knows its folder. Raises `UnknownArchitecture` for a file that can not be read.
    """
    folder = Path(config.name_or_path)
    own = (folder / GENERATION_CONFIG_NAME).is_file()
    # A loaded configuration has lost such settings, which older models have in their config.json.
    said = {} if own else {"config_file_name": CONFIG_NAME, "_from_model_config": True}
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True, **said)
    except (OSError, ValueError, TypeError) as error:
        name = GENERATION_CONFIG_NAME if own else CONFIG_NAME
        raise UnknownArchitecture(f"{name} in {folder} can not be read: {error}") from error


def quicken(model: nn.Module) -> None:
    """Put every linear map, and activations that have a quicker spelling, on the path that costs least."""
    for path, module in [(p, m) for p, m in model.named_modules() if type(m) in (nn.Linear, Conv1D)]:
        model.set_submodule(path, Dense(module))
    for path in [p for p, m in model.named_modules() if isinstance(m, NewGELUActivation)]:
        model.set_submodule(path, nn.GELU(approximate="tanh"))  # the same function in one sweep


class Dense(nn.Linear):
    """A linear map of the model, on the quickest path; weight and bias are those of the map it stands for.

    GPT-2's maps hold their weights as [in, out], which are turned once.
    """

    def __init__(self, linear: nn.Linear | Conv1D) -> None:
        weight, turned = linear.weight, isinstance(linear, Conv1D)
        out, wide = reversed(weight.shape) if turned else weight.shape
        super().__init__(wide, out, bias=linear.bias is not None, device="meta")
        self.weight = nn.Parameter(weight.data.T.contiguous(), requires_grad=False) if turned else weight
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """x [..., in] -> [..., out]; differentiable in x where gradients are wanted."""
        return functional.linear(input, self.weight, self.bias) if torch.is_grad_enabled() else self._frozen(input)

    @cached_property
    def _frozen(self) -> FrozenMap:
        return FrozenMap(self.weight, self.bias)


def _round(model: nn.Module, dtype: torch.dtype) -> None:
    """Round the maps and the words to a type; norms, positions and segments keep theirs, as they cost next to nothing."""
    words = model.get_input_embeddings()  # type: ignore[operator]
    for module in model.modules():
        if module is words or not isinstance(module, nn.LayerNorm | nn.Embedding):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)  # on the CPU the others may be wider, never narrower
