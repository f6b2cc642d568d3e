"""One user's Python door: AdapterHub's verbs on a frozen backbone, through the methods, plans and formats that serve it.

    model = AdapterModel.from_pretrained("path/to/model")
    name = model.load_adapter("path/to/adapter")
    model(**tokenizer(["I love it"], return_tensors="pt"), adapter_names=[name]).logits

Training is `transformers.Trainer` as it is: the module's parameters are those of its adapters, fusions, heads and token
embeddings, and its checkpoints hold nothing else. Everything runs as it is served: dropout, of the backbone and of the
methods, is not applied. Two settings of `TrainingArguments` need transformers' own modules, which are behind the door:
`gradient_checkpointing` and `neftune_noise_alpha` stay off.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from adapters import composition, generation
from adapters.backbone import Backbone
from adapters.batch.rows import Member, Row, members_of
from adapters.composition import Composition
from adapters.door import blocks, inputs, outputs
from adapters.door.blocks import Setup
from adapters.door.inputs import Given
from adapters.door.outputs import Goals, Group
from adapters.door.owner import DEFAULT
from adapters.door.setups import Setups
from adapters.door.sources import model_folder
from adapters.door.vocabularies import Vocabularies
from adapters.errors import InvalidRow
from adapters.manifest import VOCABULARIES
from adapters.passes import answer, side_by_side
from adapters.refs import AdapterRef, Reference
from adapters.weights import Resident

_FEW_POSITIONS = ("tagging", "question_answering", *VOCABULARIES)


class AdapterModel(Setups, Vocabularies):
    """A frozen backbone with named adapters, fusions, heads and vocabularies; the verbs are in `adapters.door`.

    One pass at a time: not thread-safe, as everything that is active is the model's.
    """

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """Load a backbone from a Hugging Face folder, or from the hub; raises `UnknownArchitecture`."""
        return cls(Backbone.load(model_folder(name), device, dtype))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        word_starts: Tensor | Sequence[Sequence[int]] | None = None,
        task_ids: Tensor | Sequence[int] | None = None,
        adapter_names: Any = None,
        head: str | None = None,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        pixel_values: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """Run a batch [rows, length] (or [questions, choices, length], or images `pixel_values` [rows, channels, height, width]) under a composition, and answer by its head.

        `adapter_names`: a name, a list (a stack), a block or its JSON; `BatchSplit` gives rows different ones; None is
        what is active, `[]` the bare backbone. `head`: a name; else the head called as the last adapter, else the
        active one, else the last hidden states. `task_ids` [rows] choose from a `MultiTask`.

        Returns transformers' output of the head's kind; one with all of them for `Parallel`, and for each share of a
        `BatchSplit` whose heads differ. Token outputs are aligned with `input_ids`: 0 at padding (QA: the lowest number), and nothing for tokens
        that prompt tuning inserts. Dependency parsing takes `word_starts`, and `labels_arcs` and `labels_rels`
        [rows, words], negative where none counts; to evaluate with those, or with QA's positions, tell `Trainer` so
        (`TrainingArguments(label_names=[...])`). The losses are in `adapters.losses`. Raises `InvalidRow`.

        An encoder-decoder answers for `decoder_input_ids` [rows, length]; where they are absent for the `labels` of a
        seq2seq_lm head, or the row itself, moved by one place behind the token that its decoders begin with.
        """
        known = {field.name for field in fields(Goals)}
        if unknown := sorted(name for name in set(more) - known if more[name] is not None and more[name] is not False):
            raise TypeError(f"forward takes no {unknown[0]!r}")
        goals = Goals(labels, start_positions, end_positions, **{k: more[k] for k in known & set(more)})
        texts = (input_ids, attention_mask, token_type_ids)
        given = inputs.given(*texts, pixel_values, self.backbone.profile.geometry)
        setup = self.active_adapters if adapter_names is None else self.known(blocks.block(adapter_names))
        setup = composition.BARE.block if setup is None else setup
        branches = self._branches(given, setup, self.skipped(adapter_names) or self._skip_layers, task_ids)
        heads = self._heads_of(branches, head, active=adapter_names is None and blocks.has_one_head(setup))
        groups = self._groups(heads, blocks.shares(setup, given.questions), given.choices or 1)
        outputs.check(groups, goals)
        words = labels if any(group.spec is not None and group.spec.type == "seq2seq_lm" for group in groups) else None
        sides = (decoder_input_ids, decoder_attention_mask, words)
        targets = inputs.targets(given, *sides, self.backbone.profile.geometry)
        rows = self._rows(given, branches, heads, word_starts, None if targets is given else targets)
        answers = answer(self.backbone, rows, layers=bool(output_hidden_states))
        made = [outputs.output(group, answers, targets, goals, states=bool(output_hidden_states)) for group in groups]
        whole = outputs.together(made)
        return whole.to_tuple() if return_dict is False else whole

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        adapter_names: Any = None,
        head: str | None = None,
        **settings: Any,
    ) -> Any:
        """What transformers' `generate` returns for prompts [rows, length] under a composition, greedy, sampled or in beams.

        `adapter_names` and `head` as in `forward`; every row generates under its own adapters. The head is a causal_lm
        head, an encoder-decoder's a seq2seq_lm head; `load_lm_head` gives the backbone's own. Padding may lie on either side; what is returned is padded on the
        left. `settings` are those of transformers' `generate`. Raises `InvalidRow`.
        """
        given = inputs.read(input_ids, attention_mask, None)
        setup = self.active_adapters if adapter_names is None else self.known(blocks.block(adapter_names))
        setup = composition.BARE.block if setup is None else setup
        branches = self._branches(given, setup, self.skipped(adapter_names) or self._skip_layers, None)
        if len(branches[0]) > 1:
            raise InvalidRow("the branches of a Parallel do not generate together: give each its own rows (BatchSplit)")
        heads = self._heads_of(branches, head, active=adapter_names is None and blocks.has_one_head(setup))
        with torch.no_grad():
            rows = self._rows(given, branches, heads, None)
        return generation.generate(self.backbone, rows, **settings)

    def _branches(
        self, given: Given, setup: Setup, skip_layers: frozenset[int], task_ids: Any
    ) -> list[tuple[Composition, ...]]:
        """Per row, the compositions of its branches (one, but for `Parallel`)."""
        each = blocks.for_rows(setup, given.questions)
        step = given.choices or 1
        found = [blocks.composed(one, skip_layers) for one in each for _ in range(step)]
        if any(composition.task_count(one) is not None for one in found):
            if task_ids is None or len(task_ids) != given.questions:
                raise InvalidRow("a MultiTask needs task_ids, the number of each row's task")
            tasks = [int(task) for task in task_ids for _ in range(step)]
            found = [self._for_task(one, task) for one, task in zip(found, tasks, strict=True)]
        branches = [composition.branches(one) for one in found]
        if len({len(row) for row in branches}) > 1:
            raise InvalidRow("the rows of one batch must have equally many branches of Parallel")
        return branches

    def _for_task(self, one: Composition, task: int) -> Composition:
        count = composition.task_count(one)
        if count is None:
            return one
        if not 0 <= task < count:
            raise InvalidRow(f"task id {task} is not one of the {count} of the MultiTask")
        return composition.for_task(one, task)

    def _heads_of(
        self, branches: Sequence[Sequence[Composition]], head: str | None, *, active: bool
    ) -> list[list[str | None]]:
        """The head of every branch of every row; `active`: whether the active head goes before the adapters' own."""
        lasts = [[composition.last(one.block) for one in row] for row in branches]
        names = [[None if leaf is None else str(leaf.ref) for leaf in row] for row in lasts]
        if head is None and active:
            head = self.active_head
        if head is not None:
            self.heads[head]
            return [[head for _ in row] for row in names]
        return [[name if name in self.heads else self.active_head for name in row] for row in names]

    def _rows(
        self,
        given: Given,
        branches: Sequence[Sequence[Composition]],
        heads: Sequence[Sequence[str | None]],
        word_starts: Tensor | Sequence[Sequence[int]] | None,
        targets: Given | None = None,
    ) -> list[Row]:
        """The rows of the pass, branch after branch; equal compositions share their members."""
        residents = self._residents(branches, heads)

        def resident(ref: Reference | AdapterRef) -> Resident:
            kind = "fusion" if isinstance(ref, Reference) and ref.alias == blocks.FUSION else "adapter"
            return residents[kind, ref.name]

        active = self._active_embedding
        vocabulary = None if active == DEFAULT else self.embeddings[active].vocabulary()
        few = not self.backbone.profile.geometry.encoder_layers  # nothing is put into a decoder's row
        members: dict[Composition, tuple[Member, ...]] = {}
        rows = []
        for branch in range(len(branches[0])):
            for i, ids in enumerate(given.ids):
                one, head = branches[i][branch], heads[i][branch]
                if one not in members:
                    members[one] = members_of(one, resident)
                spec = self.spec(head)
                starts = self._starts(given, word_starts, i) if spec and spec.type == "dependency_parsing" else None
                rows.append(
                    Row(
                        members=members[one],
                        head=None if head is None else residents["head", head],
                        embedding=vocabulary,
                        input_ids=ids,
                        type_ids=None if given.types is None else given.types[i],
                        skip_layers=one.skip_layers,
                        word_starts=starts,
                        positions=tuple(range(len(ids))) if few and spec and spec.type in _FEW_POSITIONS else None,
                        pixels=None if given.pixels is None else given.pixels[i],
                        decoder_ids=None if targets is None else targets.ids[i],
                    )
                )
        return rows

    def _residents(
        self, branches: Sequence[Sequence[Composition]], heads: Sequence[Sequence[str | None]]
    ) -> Mapping[tuple[str, str], Resident]:
        """Everything that the rows name, folded into one arena: (kind, name) -> resident."""
        blocks_used = dict.fromkeys(one.block for row in branches for one in row)
        wanted = [("adapter", name) for block in blocks_used for name in blocks.names(block)]
        wanted += [("fusion", name) for block in blocks_used for name in blocks.fusions(block)]
        wanted += [("head", name) for row in heads for name in row if name is not None]
        shelves = {"adapter": self.adapters, "fusion": self.fusions, "head": self.heads}
        keys = list(dict.fromkeys(wanted))
        folded = [shelves[kind][name].folded(self.backbone) for kind, name in keys]
        return dict(zip(keys, side_by_side(folded, self.device), strict=True))

    def _starts(self, given: Given, word_starts: Any, row: int) -> tuple[int, ...]:
        if word_starts is None:
            raise InvalidRow(
                "dependency parsing needs word_starts: the first token of each word, and the end of the last"
            )
        first = int(given.own[row].long().argmax())
        return tuple(start - first for start in inputs.word_starts(word_starts, row))

    def _groups(self, heads: Sequence[Sequence[str | None]], shares: Sequence[Hashable], step: int) -> list[Group]:
        """Rows that one head answers: all of a branch, or, where their heads differ, each share of a `BatchSplit`."""
        groups = []
        for branch in range(len(heads[0])):
            names = [row[branch] for row in heads]
            keys = [(None if len(set(names)) == 1 else shares[row // step], name) for row, name in enumerate(names)]
            for (_, head), found in groupby(range(len(names)), key=keys.__getitem__):
                rows = tuple(found)
                groups.append(Group(self.spec(head), rows, tuple(branch * len(heads) + row for row in rows)))
        return groups
