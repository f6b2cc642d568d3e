"""The closed table of methods, and for each kind of site those that act on it."""

from collections.abc import Mapping

from adapters.methods.base import ActsOnAttention, ActsOnEmbedding, ActsOnJunction, ActsOnLinear, Method
from adapters.methods.bottleneck import BOTTLENECK
from adapters.methods.ia3 import IA3
from adapters.methods.invertible import INVERTIBLE
from adapters.methods.lora import LORA
from adapters.methods.prefix_tuning import PREFIX_TUNING
from adapters.methods.prompt_tuning import PROMPT_TUNING

METHODS: Mapping[str, Method] = {
    method.name: method for method in (BOTTLENECK, INVERTIBLE, LORA, IA3, PREFIX_TUNING, PROMPT_TUNING)
}
LINEAR: Mapping[str, ActsOnLinear] = {"lora": LORA, "ia3": IA3}
JUNCTION: Mapping[str, ActsOnJunction] = {"bottleneck": BOTTLENECK}
ATTENTION: Mapping[str, ActsOnAttention] = {"prefix_tuning": PREFIX_TUNING}
# In the order in which they run: a prompt is put in after the invertible adapter has seen the row's own tokens.
EMBEDDING: Mapping[str, ActsOnEmbedding] = {"invertible": INVERTIBLE, "prompt_tuning": PROMPT_TUNING}
