"""Tokens that a case generated: each row's own, whether its rows generate together or alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from adapters import generation
from tests.conformance.bench import Bench, ReadyRow
from tests.conformance.cases import GENERATED, Case


def faults(bench: Bench, case: Case, rows: Sequence[ReadyRow]) -> Iterator[str]:
    """Rows whose tokens are not those that the source library stored; none for a case that generates nothing."""
    settings = case.raw.get("generate")
    if not settings:
        return
    tensors = load_file(case.folder / case.raw["expected"]["file"])
    together = _continued(bench, rows, settings)
    for i, row in enumerate(rows):
        name = f"row.{row.source.arranged.source}.{GENERATED}"
        stored = tensors[name][0] if name in tensors else tensors[GENERATED][row.source.arranged.place]
        wanted = stored[_prompt(bench, len(row.source.mask)) :]
        for how, tokens in (("together", together[i]), ("alone", _continued(bench, [row], settings)[0])):
            if not same(tokens, wanted, bench.backbone.profile.geometry.pad_token_id):
                yield f"{row.source.label}: generated {tokens.tolist()} {how} instead of {wanted.tolist()}"


def same(tokens: Tensor, wanted: Tensor, pad: int) -> bool:
    """Whether two rows agree; the longer one may go on with padding, as its neighbours were not at their ends."""
    shared = min(len(tokens), len(wanted))
    rest = [*tokens[shared:].tolist(), *wanted[shared:].tolist()]
    return bool((tokens[:shared] == wanted[:shared]).all()) and all(token == pad for token in rest)


def _continued(bench: Bench, rows: Sequence[ReadyRow], settings: Mapping[str, Any]) -> Tensor:
    """The new tokens [rows, new] of some rows; prompts are padded to the longest of them."""
    found: Tensor = generation.generate(
        bench.backbone, [replace(row.row, first_position=0) for row in rows], **settings
    )
    return found[:, _prompt(bench, max(len(row.row.input_ids) for row in rows)) :]


def _prompt(bench: Bench, longest: int) -> int:
    """How many tokens stand before the new ones: an encoder-decoder generates a row of its own, behind its start."""
    return 1 if bench.backbone.profile.geometry.encoder_layers else longest
