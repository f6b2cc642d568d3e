"""How the matrix of a new vocabulary begins: known tokens keep their vectors, the others are drawn.

AdapterHub's `add_embeddings`: rows of tokens whose string is in both vocabularies are copied from the reference, all
others come from N(0, 0.02) (arXiv:2012.15562 trains such a matrix under frozen adapters). Here the draw has a seed.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from adapters.architectures.families import architecture_of
from adapters.architectures.geometry import Geometry
from adapters.errors import Misfit, UnknownArchitecture

SPREAD = 0.02  # standard deviation of the initialisation of BERT's families


def new_matrix(
    tokens: Mapping[str, int],
    width: int,
    reference_tokens: Mapping[str, int] | None,
    reference_matrix: Tensor | None,
    seed: int,
) -> Tensor:
    """A matrix [rows, width], float32, with a row for every id of `tokens` (string -> id).

    With a reference (string -> id, and its matrix [reference rows, width]), rows of strings that both know are its
    rows, bit for bit. The drawn rows depend on the seed and the shape alone. Raises `Misfit`.
    """
    rows = max((len(tokens), *(number + 1 for number in tokens.values())))
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.empty(rows, width).normal_(0.0, SPREAD, generator=generator)
    if reference_tokens is None or reference_matrix is None:
        if reference_tokens is not None or reference_matrix is not None:
            raise Misfit(["a reference is an embedding and its tokenizer: give both or neither"])
        return matrix
    if reference_matrix.dim() != 2 or reference_matrix.shape[1] != width:
        raise Misfit([f"the reference embedding is {list(reference_matrix.shape)}; {width} wide is needed"])
    shared = sorted(tokens.keys() & reference_tokens.keys())
    sources = [reference_tokens[token] for token in shared]
    if sources and max(sources) >= reference_matrix.shape[0]:
        detail = f"the reference tokenizer gives ids up to {max(sources)}"
        raise Misfit([f"{detail}, but its embedding has only {reference_matrix.shape[0]} rows"])
    places = torch.tensor([tokens[token] for token in shared], dtype=torch.int64)
    found = reference_matrix.index_select(0, torch.tensor(sources, dtype=torch.int64))
    return matrix.index_copy_(0, places, found.to(matrix.dtype))


def backbone_matrix(folder: Path, geometry: Geometry) -> Tensor:
    """The backbone's own word vectors [vocabulary, width], read alone out of its checkpoint.

    Raises `UnknownArchitecture` where there is none of that shape, or two (below the model's prefix and without it).
    """
    family = architecture_of(geometry.model_type)
    wanted = [geometry.vocabulary, geometry.embedding_size]
    found: list[tuple[Path, str]] = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                named = name.removeprefix(f"{family.prefix}.") == f"{family.words}.weight"
                if named and file.get_slice(name).get_shape() == wanted:
                    found.append((path, name))
    if len(found) != 1:
        names = ", ".join(name for _, name in found) or "none"
        raise UnknownArchitecture(f"one tensor {family.words}.weight should be {wanted}; found: {names}")
    path, name = found[0]
    with safe_open(path, framework="pt") as file:
        matrix: Tensor = file.get_tensor(name)
    return matrix
