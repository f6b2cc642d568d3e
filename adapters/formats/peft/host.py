"""The model that a folder was saved from: which modules it has, and how their paths begin."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from adapters.architectures.record import Architecture
from adapters.architectures.sites import SITES, TABLES, Address, SiteKind
from adapters.errors import Misfit
from adapters.formats.peft.modules import fused_modules, modules
from adapters.methods.tables import ADDED
from adapters.methods.word_rows import DECODER_WORDS, WORDS

# Whatever the order of a record's sites.
_IN_A_LAYER = (
    "embed_map",
    "attn_qkv",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_out",
    "cross_q",
    "cross_k",
    "cross_v",
    "cross_out",
    "ffn_gate",
    "ffn_in",
    "ffn_out",
    "pooler",
)
# Families whose attention makes its queries last; elsewhere they are first.
_QUERIES_LAST = ("bart", "mbart")
_DECODER = "decoder."
ROOT = "base_model.model."  # before every path of the model that PEFT was put around
# Families whose class for questions calls the base model by another name than their other classes do.
_QUESTIONS: Mapping[str, str] = dict.fromkeys(("llama", "qwen2", "qwen3"), "transformer")


@dataclass(frozen=True)
class Host:
    """A family's record and depth.

    `prefixed`: the model has a head, so that paths begin with the base model's name in it, which a class for
    `questions` may call otherwise. `encoder_alone`: it is an encoder-decoder's encoder without its decoder.
    """

    family: Architecture
    layers: int
    prefixed: bool
    questions: bool = False
    encoder_alone: bool = False

    @property
    def prefix(self) -> str:
        """What stands before every path of the base model, with its dot."""
        return f"{_named(self.family, questions=self.questions)}." if self.prefixed else ""

    def path(self, path: str) -> str:
        """The path of a module of the base model, in the model that was saved."""
        return f"{self.prefix}{path}"

    def modules(self) -> dict[str, Address]:
        """Path -> address of every linear map that can be adapted."""
        found = modules(self.family, self.layers)
        return {self.path(path): address for path, address in found.items() if self._has(path)}

    def in_order(self, paths: Iterable[str]) -> list[str]:
        """Paths of linear maps in the order in which the model has them: that of the embeddings first, layer by layer, the pooler last; raises `Misfit`."""
        known = self.modules()
        late = self.family.model_type in _QUERIES_LAST

        def place(path: str) -> tuple[float, float]:
            address = known[path]
            if address.site not in _IN_A_LAYER:
                raise Misfit([f"the place of {path} among the maps of the model is not known"])
            outside = -inf if address.site == "embed_map" else inf
            behind = 2.5 if late and address.site.endswith("_q") else 0  # between values and the map behind attention
            return (outside if address.layer is None else address.layer, _IN_A_LAYER.index(address.site) + behind)

        return sorted(paths, key=place)

    def fused_modules(self) -> dict[str, tuple[Address, ...]]:
        """Path -> the sites that share a map, of every such map."""
        return {self.path(path): parts for path, parts in fused_modules(self.family, self.layers).items()}

    def norms(self) -> dict[str, Address]:
        """Path -> address of every norm of the layers and around them."""
        addresses = [a for a in self.family.addresses(self.layers) if SITES[a.site] is SiteKind.NORM]
        found = {self.family.own_norm_path(address): address for address in addresses}
        return {self.path(path): address for path, address in found.items() if self._has(path)}

    def _has(self, path: str) -> bool:
        return not (self.encoder_alone and path.startswith(_DECODER))

    def tables(self) -> dict[str, Address]:
        """Path -> address of every table of vectors beside that of words."""
        return {path: address for path, address in self._addends().items() if address.site in ADDED}

    def looked_up(self) -> dict[str, Address]:
        """Path -> address of every table whose module is asked for vectors by their numbers, as PEFT's LoRA has to be.

        BART's positions are counted in their module, and DeBERTa's attention reads the weight of its distances.
        """
        counted = ("positions", "decoder_positions") if self.family.position_offset else ()
        weighed = () if self.family.relative_bias else ("distances",)
        found = {path: address for path, address in self.tables().items() if address.site not in counted + weighed}
        return {**self.word_tables, **found}

    def biased(self) -> dict[str, Address]:
        """Path -> address of everything but norms that can have another bias."""
        return self.modules() | {path: a for path, a in self._addends().items() if a.site not in TABLES}

    def _addends(self) -> dict[str, Address]:
        held = {site: path for site, path in self.family.addends.items() if self._has(path)}
        return {self.path(path): Address(None, site) for site, path in held.items()}

    @property
    def words(self) -> str:
        """The path of the table of word vectors; of a model that has none, one that no module has."""
        return self.path(self.family.words) if self.family.words is not None else ""

    @property
    def word_tables(self) -> dict[str, Address]:
        """Path -> address of the tables that words are looked up in: an encoder-decoder's stacks have modules of their own.

        The module of `words` holds the same weight there, but nothing reads it: what PEFT wraps around it does nothing.
        """
        if self.family.words is None:
            return {}
        if self.family.decoder is None:
            return {self.words: WORDS}
        stacks = {"encoder": WORDS} if self.encoder_alone else {"encoder": WORDS, "decoder": DECODER_WORDS}
        return {self.path(f"{stack}.embed_tokens"): address for stack, address in stacks.items()}

    def whole_path(self, address: Address) -> str:
        """The path of the linear map at an address; raises `Misfit` where that is a part of a wider map."""
        if address in (WORDS, DECODER_WORDS):
            return next(path for path, held in self.word_tables.items() if held == address)
        if self.family.fused(address) is not None:
            raise Misfit([f"PEFT adapts the map that {address} is a part of as a whole"])
        return self.path(self.family.linear_path(address))


def host_of(
    keys: Iterable[str], family: Architecture, layers: int, *, questions: bool = False, tagging: bool = False
) -> Host:
    """The host that a checkpoint's keys speak of; `questions`, `tagging`: it was saved from a class for them."""
    keys = tuple(keys)
    prefixed = any(key.startswith(f"{ROOT}{_named(family, questions=questions)}.") for key in keys)
    alone = tagging if prefixed else _encoder_alone([key.removeprefix(ROOT) for key in keys])
    host = Host(family, layers, prefixed, questions, family.decoder is not None and alone)
    former = f"{ROOT}{host.prefix}{family.formerly.layer.partition('{')[0]}"
    return replace(host, family=family.formerly) if any(key.startswith(former) for key in keys) else host


def _encoder_alone(paths: Iterable[str]) -> bool:
    """Whether a checkpoint speaks of layers of an encoder alone: PEFT names every map of a model that it adapts."""
    stacks = {path.partition(".")[0] for path in paths}
    return "encoder" in stacks and _DECODER.rstrip(".") not in stacks


def _named(family: Architecture, *, questions: bool) -> str:
    return _QUESTIONS.get(family.model_type, family.prefix) if questions else family.prefix
