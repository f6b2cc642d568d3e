"""The closed table of methods; which of them act at which kind of site follows from what each can do.

A new method is one file, and one line here. On embeddings, methods run in the order of the table: a prompt is put in
after the invertible adapter has seen the row's own tokens.
"""

from collections.abc import Mapping

from adapters.methods.adaption_prompt import ADAPTION_PROMPT
from adapters.methods.base import (
    ActsByPlace,
    ActsOnAttention,
    ActsOnEmbedding,
    ActsOnJunction,
    ActsOnLayer,
    ActsOnLinear,
    ActsOnNorm,
    AttendsBeside,
    InvertsEmbedding,
    Method,
)
from adapters.methods.biases import BIASES
from adapters.methods.bottleneck import BOTTLENECK
from adapters.methods.compacter import COMPACTER
from adapters.methods.delta import DELTA
from adapters.methods.fusion import FUSION
from adapters.methods.ia3 import IA3
from adapters.methods.invertible import INVERTIBLE
from adapters.methods.lora import LORA
from adapters.methods.maps import MAPS
from adapters.methods.mtl_lora import MTL_LORA
from adapters.methods.multitask_prompt import MULTITASK_PROMPT
from adapters.methods.norms import NORMS
from adapters.methods.prefix_tuning import PAST_PREFIX, PREFIX_TUNING
from adapters.methods.prompt_tuning import PROMPT_TUNING, WORD_PROMPT
from adapters.methods.reft import REFT
from adapters.methods.tables import TABLE_ROWS
from adapters.methods.tuners.table import TUNERS
from adapters.methods.vera import VERA
from adapters.methods.word_rows import WORD_ROWS

_ALL: tuple[Method, ...] = (
    ADAPTION_PROMPT,
    BIASES,
    BOTTLENECK,
    COMPACTER,
    DELTA,
    FUSION,
    IA3,
    INVERTIBLE,
    LORA,
    MAPS,
    MTL_LORA,
    MULTITASK_PROMPT,
    NORMS,
    PAST_PREFIX,
    PREFIX_TUNING,
    PROMPT_TUNING,
    REFT,
    TABLE_ROWS,
    VERA,
    WORD_PROMPT,
    WORD_ROWS,
    *TUNERS,
)
METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}
LINEAR: Mapping[str, ActsOnLinear] = {m.name: m for m in _ALL if isinstance(m, ActsOnLinear)}
JUNCTION: Mapping[str, ActsOnJunction] = {m.name: m for m in _ALL if isinstance(m, ActsOnJunction)}
ATTENTION: Mapping[str, ActsOnAttention] = {m.name: m for m in _ALL if isinstance(m, ActsOnAttention)}
BESIDE: Mapping[str, AttendsBeside] = {m.name: m for m in _ALL if isinstance(m, AttendsBeside)}
NORM: Mapping[str, ActsOnNorm] = {m.name: m for m in _ALL if isinstance(m, ActsOnNorm)}
EMBEDDING: Mapping[str, ActsOnEmbedding] = {m.name: m for m in _ALL if isinstance(m, ActsOnEmbedding)}
INVERSE: Mapping[str, InvertsEmbedding] = {m.name: m for m in _ALL if isinstance(m, InvertsEmbedding)}
PLACED: Mapping[str, ActsByPlace] = {m.name: m for m in _ALL if isinstance(m, ActsByPlace)}
LAYER: Mapping[str, ActsOnLayer] = {m.name: m for m in _ALL if isinstance(m, ActsOnLayer)}
