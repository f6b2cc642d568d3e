"""Dependency parsing: the head of every word and its relation, from biaffine scores (AdapterHub's parsing head)."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from adapters.manifest import HeadSpec
from serving.errors import Fault, Unprocessable
from serving.request import Reduced, Reduction
from serving.tasks.inputs import Input, Words
from serving.tasks.task import ONE_OF_ALL, OneText, Options, Piece, Prepared, Room, scores
from serving.tasks.tokenization import Encoded, Text, Tokenizer


class DependencyParsing(OneText):
    """`[{"id", "word", "head", "relation", "score"}]` per input; words count from 1, head 0 is the root.

    Each word goes to its best head on its own (AdapterHub's rule): nothing makes the arcs a tree.
    """

    name = "dependency-parsing"
    heads = frozenset({"dependency_parsing"})
    parameters = frozenset({"truncate", "function_to_apply"})
    functions = ONE_OF_ALL
    reads: tuple[type[Input], ...] = (Text, Words)

    def texts(self, item: Input, options: Options) -> tuple[Text, ...]:
        """None: words are tokenized one by one."""
        return ()

    def prepare(
        self, item: Input, encoded: Sequence[Encoded], tokenizer: Tokenizer, room: Room, options: Options
    ) -> Prepared:
        """One row of words; a text is split at white space. Cut are whole words."""
        room.check(1)
        words = item.words if isinstance(item, Words) else tuple(_text(item).split())
        if not words:
            raise Unprocessable("the sentence has no words", code="unreadable_input", pointer="")
        row, counts = tokenizer.encode_words(words)
        empty = [i for i, count in enumerate(counts) if not count]
        if empty:
            at = [f"/words/{i}" if isinstance(item, Words) else "" for i in empty]
            faults = tuple(
                Fault(pointer, f"the word {words[i]!r} has no tokens") for i, pointer in zip(empty, at, strict=True)
            )
            raise Unprocessable(faults[0].detail, code="unreadable_input", faults=faults)
        truncated = row.tokens > room.tokens
        if truncated:
            if not options.truncate:
                raise room.too_long(row.tokens)
            left = room.tokens - (row.tokens - sum(counts))
            words = words[: sum(total <= left for total in accumulate(counts))]
            if not words:
                raise room.too_long(row.tokens, "even the first word", "no word fits")
            row, counts = tokenizer.encode_words(words)
        first = next(i for i, part in enumerate(row.parts) if part is not None)
        starts = tuple(accumulate(counts, initial=first))
        return Prepared(Words(words), (Piece(row, starts),), tokenizer, truncated)

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """Arc scores, and the relation scores at the best head."""
        return Reduction("logits", best_head=True)

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[words, words + 1 + relations]."""
        assert head is not None
        assert piece.word_starts is not None
        words = len(piece.word_starts) - 1
        return (words, words + 1 + len(head.labels))

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """`score` is the probability of the arc times that of its relation.

        "none" gives the arc's logit instead, and beside it those that were compared: `arc_logits` (one per head, the
        root first) and `relation_logits` (one per label, at the head that was chosen).
        """
        assert head is not None
        assert isinstance(prepared.item, Words)
        arcs, relations = shares[0].output[:, : -len(head.labels)], shares[0].output[:, -len(head.labels) :]
        heads, labels = arcs.argmax(axis=1).tolist(), relations.argmax(axis=1).tolist()
        likely, apt = scores(arcs, "softmax"), scores(relations, "softmax")
        found: list[dict[str, Any]] = []
        for i, word in enumerate(prepared.item.words):
            at, label = heads[i], labels[i]
            entry = {"id": i + 1, "word": word, "head": at, "relation": head.labels[label]}
            if options.function == "none":
                entry |= {"score": float(arcs[i, at]), "arc_logits": arcs[i].tolist()}
                entry["relation_logits"] = relations[i].tolist()
            else:
                entry["score"] = float(likely[i, at] * apt[i, label])
            found.append(entry)
        return found


def _text(item: Input) -> str:
    assert isinstance(item, Text)
    return item.text
