"""Tokenize a case's texts with the backbone's or the embedding's own tokenizer, and compare with the stored ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from tests.conformance.cases import CaseRow


class TokenMismatch(Exception):
    """Our tokenizer gives other ids than the source library stored."""


@dataclass(frozen=True)
class Ids:
    """Token and segment ids of one row."""

    input_ids: tuple[int, ...]
    type_ids: tuple[int, ...] | None


def tokenize(tokenizer_json: bytes | None, rows: Sequence[CaseRow]) -> tuple[Ids, ...]:
    """Ids of every row; raises `TokenMismatch`. A vocabulary saved without its tokenizer leaves the stored ids."""
    if tokenizer_json is None:
        return tuple(Ids(row.input_ids, row.type_ids) for row in rows)
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = []
    for row, encoding in zip(rows, tokenizer.encode_batch([row.text for row in rows]), strict=True):
        ids, types = tuple(encoding.ids), tuple(encoding.type_ids)
        if ids != row.input_ids:
            raise TokenMismatch(f"{row.label}: token ids {ids} instead of {row.input_ids}")
        if row.type_ids is not None and types != row.type_ids:
            raise TokenMismatch(f"{row.label}: segment ids {types} instead of {row.type_ids}")
        found.append(Ids(ids, row.type_ids))
    return tuple(found)


def backbone_tokenizer(folder: Path) -> bytes | None:
    """The bytes of a model folder's `tokenizer.json`; None where it has none, as models of images."""
    path = folder / "tokenizer.json"
    return path.read_bytes() if path.is_file() else None
