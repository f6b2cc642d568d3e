"""AdapterHub's verbs for token embeddings: vocabularies by name, of which one is active.

`default` is the backbone's own vocabulary; it is always there, and never trains.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from adapters.door.heads import Heads
from adapters.door.owner import DEFAULT, Owner, folder_of
from adapters.door.sources import readable
from adapters.embeddings import MATRIX, TOKENIZER
from adapters.errors import Misfit
from adapters.formats import recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.adapterhub.embedding import roles
from adapters.manifest import EmbeddingSpec
from adapters.vocabulary import new_matrix
from adapters.weights import Package


class Vocabularies(Heads, Owner):
    """Verbs for token embeddings. What is active holds for every call; adapters and heads know nothing of it."""

    def add_embeddings(
        self,
        name: str,
        tokenizer: Any,
        reference_embedding: str | None = None,
        reference_tokenizer: Any = None,
        embedding_dim: int | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """Add a matrix with a row per token of a tokenizer (of transformers or tokenizers), and make it active.

        Tokens whose string is in both vocabularies start as in the reference, the others from N(0, 0.02), drawn with
        the seed. Frozen until `train_adapter(..., train_embeddings=True)`. Raises `KeyError` where half of a reference
        is given, `ValueError` where the name is taken or the reference unknown.
        """
        if (reference_embedding is None) != (reference_tokenizer is None):
            raise KeyError("a reference is an embedding and its tokenizer: give both or neither")
        self._free(name)
        width = self.backbone.profile.geometry.embedding_size
        if embedding_dim not in (None, width):
            raise Misfit([f"the backbone's word vectors are {width} wide, not {embedding_dim}"])
        known, matrix = None, None
        if reference_embedding is not None:
            known, matrix = _ids(reference_tokenizer), self.word_vectors(reference_embedding)
        tensors = {MATRIX: new_matrix(_ids(tokenizer), width, known, matrix, seed)}
        text = _json(tokenizer)
        if text is not None:
            tensors[TOKENIZER] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        spec = EmbeddingSpec(tensors[MATRIX].shape[0], width, text is not None)
        package = Package(self.manifest("embedding", embedding=spec), tensors)
        self.keep(self.embeddings, name, package, frozen=True)
        self._active_embedding = name

    @property
    def loaded_embeddings(self) -> dict[str, Tensor]:
        """The matrices [tokens, width] of all vocabularies by name, the backbone's own among them."""
        return {name: self.word_vectors(name) for name in (DEFAULT, *self.embeddings)}

    def load_embeddings(self, path: str | Path, name: str) -> Any:
        """Load a matrix (AdapterHub's folder, or a native package) and make it active; returns its tokenizer, or None.

        The tokenizer is what transformers makes of the folder `tokenizer/`, or of the native package's tokenizer.json.
        """
        self._free(name)
        with readable(path) as source:
            package = recognise.read(source, self.backbone.profile)
            tokenizer = _tokenizer(source / "tokenizer", package)
        if package.manifest.kind != "embedding":
            raise Misfit([f"{path} holds no token embedding, but a package of kind {package.manifest.kind!r}"])
        self.keep(self.embeddings, name, package, frozen=True)
        self._active_embedding = name
        return tokenizer

    def save_embeddings(self, path: str | Path, name: str, tokenizer: Any = None) -> None:
        """Save a matrix, and a tokenizer only if it is given, as AdapterHub lays them out: its `load_embeddings` reads it.

        They take the place of an older save; raises `Misfit` where a folder `tokenizer/` of another kind is in the way.
        `embedding.safetensors` is what is loaded here, `embedding.pt` the same for AdapterHub, which knows no other.
        """
        matrix = self.word_vectors(name).clone()
        spec = EmbeddingSpec(matrix.shape[0], matrix.shape[1], tokenizer=False)
        folder = folder_of(path)
        adapterhub.write(Package(self.manifest("embedding", embedding=spec), {MATRIX: matrix}), folder)
        if tokenizer is not None and hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(folder / "tokenizer")
        elif tokenizer is not None:
            (folder / "tokenizer").mkdir(exist_ok=True)
            tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))

    def embedding_package(self, name: str) -> Package:
        """The native package of a vocabulary with the tokenizer that it was added with, as it is published."""
        return self.embeddings[name].package()

    def delete_embeddings(self, name: str) -> None:
        """Forget a vocabulary; if it was active, `default` is. Raises `ValueError` for `default` itself."""
        if name == DEFAULT:
            raise ValueError("the default embedding is the backbone's own and can not be deleted")
        del self.embeddings[name]
        if self._active_embedding == name:
            self._active_embedding = DEFAULT

    @property
    def active_embeddings(self) -> str:
        """The vocabulary that token ids mean."""
        return self._active_embedding

    def set_active_embeddings(self, name: str) -> None:
        """Read token ids by a vocabulary from now on; raises `KeyError`."""
        if name != DEFAULT and name not in self.embeddings:
            raise KeyError(f"there is no embedding {name!r}; there are: {', '.join((DEFAULT, *self.embeddings))}")
        self._active_embedding = name

    set_active_embedding = set_active_embeddings  # as AdapterHub's page on embeddings calls it

    def _free(self, name: str) -> None:
        if name == DEFAULT or name in self.embeddings:
            raise ValueError(f"there is an embedding {name!r} already: delete it first, or choose another name")


def _ids(tokenizer: Any) -> Mapping[str, int]:
    found: Mapping[str, int] = tokenizer.get_vocab()
    return found


def _json(tokenizer: Any) -> str | None:
    """The tokenizer.json of a fast tokenizer; slow ones have none, and do without."""
    made = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    return made.to_str() if isinstance(made, Tokenizer) else None


def _tokenizer(folder: Path, package: Package) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: PLC0415 - slow to import, seldom needed

    if (folder / "tokenizer_config.json").is_file():
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except ValueError as error:
            remedy = "code that comes with a tokenizer is never run: load such a one yourself, without its folder here"
            raise Misfit([f"transformers makes no tokenizer of the folder tokenizer/; {remedy}"]) from error
    if TOKENIZER not in package.tensors:
        return None
    data = package.tensors[TOKENIZER].numpy().tobytes()
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(data.decode()), **roles(data))
