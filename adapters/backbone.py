"""The shared, frozen model: loaded once, hooked once, and run under a plan.

`run` is the public path of a batch: plan, one forward pass of the transformer, heads, and each row's own share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.batch.answers import Answers, answers_of, mark
from adapters.batch.attention import Packing
from adapters.batch.inject import Injection
from adapters.batch.lanes import plan_lanes
from adapters.batch.past import Past, Recorder
from adapters.batch.plan import BatchPlan
from adapters.batch.program import flat_steps
from adapters.batch.rows import Pixels, Row, own_tokens
from adapters.batch.tables import position_ids, run_tables, run_target_tables, type_ids
from adapters.embeddings import look_up
from adapters.errors import InvalidRow, InvalidRows
from adapters.heads.base import HeadContext
from adapters.heads.table import head_of
from adapters.kernels.choice import kernels_of
from adapters.kernels.interface import Kernels
from adapters.kernels.upload import upload
from adapters.loading import load_model, quicken
from adapters.manifest import ENCODER_TOKENS
from adapters.methods.base import BaseMap
from adapters.methods.prompt_tuning import BEFORE
from adapters.methods.table import EMBEDDING

if TYPE_CHECKING:  # these need triton, which is not on every machine
    from adapters.batch.replays import Replays
    from adapters.kernels.triton.graphs import Captured

Want = Literal["logits", "hidden_state", "encoder_hidden_state"]


@dataclass(frozen=True, eq=False)
class States:
    """What a pass leaves: last hidden states [tokens, hidden] in plan order, and logits by plan row.

    `encoded` are those of an encoder-decoder's encoder, whose decoder's are `hidden`.
    """

    hidden: Tensor
    logits: dict[int, Tensor]
    encoded: Tensor | None = None


class Backbone:
    """One frozen transformer. Not thread-safe: one pass at a time."""

    def __init__(
        self,
        model: nn.Module,
        profile: BackboneProfile,
        architecture: Architecture,
        device: torch.device,
        kernels: Kernels | None = None,
    ) -> None:
        self.model = model
        self.profile = profile
        self.device = device
        self.kernels = kernels
        self.replays: Replays | None = None
        self._architecture = architecture
        quicken(model)
        self._injection = Injection(model, architecture, profile.geometry)
        self._pooler = model.get_submodule(architecture.pooler or "") if profile.has_pooler else None
        if getattr(model, "pooler", None) is not None:
            setattr(model, "pooler", None)  # noqa: B010  # a None is no Module; run for the rows that want it, not for the batch; never with random weights
        self.dtype = self._injection.dtype
        # The default vocabulary is gathered where it lies: on the host. A backbone of images has none.
        words = None if architecture.images else model.get_input_embeddings().weight  # type: ignore[operator]
        self._words = torch.zeros(0, dtype=self.dtype) if words is None else words.detach().cpu()
        # A family may scale its own word vectors; other vocabularies' are as they were trained, as in AdapterHub.
        self._scale = 1.0 if words is None else getattr(model.get_input_embeddings(), "embed_scale", 1.0)  # type: ignore[operator]

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        compiled: bool = True,
        graphs: bool = False,
    ) -> "Backbone":
        """Load a Hugging Face model folder; raises `UnknownArchitecture` listing every path that does not match.

        `compiled`: with the compiled kernels of this machine, where it has any. `graphs`: passes that come again are
        captured as CUDA graphs and replayed; raises `ValueError` where there is no CUDA device with Triton's kernels.
        """
        profile = read_profile(Path(folder))
        model, where = load_model(Path(folder), profile, device, dtype), torch.device(device)
        kernels = kernels_of(where).kernels if compiled else None
        loaded = cls(model.to(where), profile, profile.geometry.architecture, where, kernels)
        if graphs:
            loaded.capture(_captured(loaded))
        return loaded

    def capture(self, captured: "Captured") -> None:
        """From now on capture passes that come again, and replay them: see `batch.replays`."""
        from adapters.batch.replays import Replays  # noqa: PLC0415 - as above

        self.replays = Replays(captured, self._states_under)

    def run(self, rows: Sequence[Row], want: Sequence[Want]) -> list[Tensor]:
        """Each row's own share of one pass, float32 on the host, in the order given; waits for the device.

        `logits`: what the row's head answers (see `adapters.heads`): [labels], or [length, labels] for heads over
        tokens ([positions, labels] where the row names some), or [words, words + 1, 1 + relations];
        `hidden_state`: [length, hidden] (an encoder-decoder's decoder's), `encoder_hidden_state`. Lengths include the
        positions that prompt tuning inserts (`rows.own_tokens` tells the others). Raises `InvalidRow`.
        """
        return self.begin(rows, want).wait()

    def begin(self, rows: Sequence[Row], want: Sequence[Want]) -> Answers:
        """`run` that does not wait for the device: passes follow one another there, and answers are on their way.

        Until they have arrived, what the rows' adapters hold there must stay. On a CPU they have when this returns.
        """
        with torch.inference_mode():
            began, plan = mark(self.device), self.plan(rows, [w == "logits" for w in want])
            return answers_of(_shares(plan, self.forward(plan), want), began)

    def proceed(self, rows: Sequence[Row], kept: Sequence[bool]) -> list[tuple[Tensor, Past | None]]:
        """The logits of each row as `run` has them, and what it leaves to the token after it (in a decoder) if it is to be kept.

        Raises `InvalidRow`.
        """
        with torch.inference_mode():
            plan = self.plan(rows, [True] * len(rows))
            recorder = Recorder([row.past for row in plan.rows], plan.answers, [kept[given] for given in plan.order])
            shares = _shares(plan, self.forward(plan, recorder), ["logits"] * len(rows))
            place = {given: at for at, given in enumerate(plan.order)}
            return [(share.float().cpu(), recorder.left(place[i])) for i, share in enumerate(shares)]

    def plan(self, rows: Sequence[Row], wants_head: Sequence[bool]) -> BatchPlan:
        """The work order of one pass on this backbone; raises `InvalidRow`."""
        geometry = self.profile.geometry
        return plan_lanes(rows, geometry, self.device, wants_head, self.kernels)

    def base_maps(self, address: Address) -> BaseMap:
        """The frozen map at a linear site, float32 on the host: what some adapters are folded with."""
        return BaseMap(*(tensor.detach().float().cpu() for tensor in self._injection.base_map(address)))

    def forward(self, plan: BatchPlan, recorder: Recorder | None = None) -> States:
        """One forward pass of the model for all rows, then their heads; differentiable in the arenas of the plan."""
        with self._injection.bind(plan, recorder):
            inputs = self._inputs(plan)
            replays = self.replays if recorder is None else None
            replayed = None if replays is None else replays.run(plan, self._injection.packing, inputs)
            hidden, encoded = self._states(inputs) if replayed is None else (replayed, None)
            pooled = self._pool(plan, hidden)
        logits: dict[int, Tensor] = {}
        for step in plan.heads:
            source = {"pooler": pooled, ENCODER_TOKENS: encoded}.get(step.spec.pooling, hidden)
            assert source is not None
            starts = tuple(plan.rows[row].word_starts for row in step.rows)
            context = HeadContext(step.ranges, starts, step.undo, step.whole, step.trained)
            answers = head_of(step.spec).apply(step.read(source), step.runs, step.spec, step.params, context)
            logits |= dict(zip(step.rows, answers, strict=True))
        return States(hidden, logits, encoded)

    def _states(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The model's last hidden states [tokens, hidden] under the running plan; beside a decoder's the encoder's."""
        output, hidden = self.model(**inputs), self.profile.geometry.hidden_size
        encoded: Tensor | None = getattr(output, "encoder_last_hidden_state", None)
        return output.last_hidden_state.reshape(-1, hidden), None if encoded is None else encoded.reshape(-1, hidden)

    def _states_under(self, plan: BatchPlan, packing: Packing, inputs: Mapping[str, Any]) -> Tensor:
        with self._injection.bind(plan, packing=packing):
            return self._states(inputs)[0]

    def _inputs(self, plan: BatchPlan) -> dict[str, Any]:
        if self._architecture.images:
            return {"pixel_values": upload(torch.from_numpy(_pixels(plan)), self.device)}
        if plan.target is not None:
            return self._sequence_inputs(plan)
        geometry = self.profile.geometry
        vectors = self._adapted(plan, upload(self._word_vectors(plan), self.device)).unsqueeze(0)
        inputs: dict[str, Any] = {
            "inputs_embeds": self._injection.embedded(vectors),
            "position_ids": upload(torch.from_numpy(position_ids(plan, geometry)), self.device).unsqueeze(0),
        }
        if self._architecture.causal:
            inputs["use_cache"] = False  # nothing is generated from this pass
        if geometry.type_vocabulary:
            inputs["token_type_ids"] = upload(torch.from_numpy(type_ids(plan)), self.device).unsqueeze(0)
        return inputs

    def _sequence_inputs(self, plan: BatchPlan) -> dict[str, Any]:
        """An encoder-decoder's; rows that bring their encoder's states leave the encoder out, if all of them do."""
        inputs: dict[str, Any] = {"decoder_inputs_embeds": self._target_vectors(plan).unsqueeze(0), "use_cache": False}
        brought = [row.encoded for row in plan.rows if row.encoded is not None]
        if not plan.layout.tokens:  # all are behind pasts; maps need a state, which no row sees
            brought = [torch.zeros(1, self.profile.geometry.hidden_size)] * len(plan.rows)
        if len(brought) == len(plan.rows):
            states = torch.cat(brought).to(self.device, self.dtype).unsqueeze(0)
            return {**inputs, "encoder_outputs": BaseModelOutput(last_hidden_state=states)}
        if brought:
            raise InvalidRow("either all rows of a pass bring their encoder's states, or none does")
        vectors = self._adapted(plan, upload(self._word_vectors(plan), self.device)).unsqueeze(0)
        return {**inputs, "inputs_embeds": self._injection.embedded(vectors)}

    def _target_vectors(self, plan: BatchPlan) -> Tensor:
        """Word vectors of the decoder's tokens [tokens, width], each row's from its own vocabulary."""
        ids = [held.astype(np.int64) for held in plan.target_ids]
        parts = []
        for i, row in enumerate(plan.rows):
            own = row.embedding is None
            try:
                found = look_up(self._words if own else row.embedding.matrix, ids[i : i + 1])  # type: ignore[union-attr]
            except InvalidRow as error:
                raise InvalidRows({plan.order[i]: error}) from error
            parts.append(found.to(self._words.dtype) * (self._scale if own else 1.0))
        x, geometry = upload(torch.cat(parts), self.device), self.profile.geometry
        return run_target_tables(plan, geometry, ids, x, self._words, self._scale)

    def _adapted(self, plan: BatchPlan, x: Tensor) -> Tensor:
        """Word vectors [tokens, width] with what adapters make of them, and prompts in the places left for them."""
        x = run_tables(plan, self.profile.geometry, x, self._words, self._scale)
        for step in flat_steps(plan.steps.get(BEFORE, ())):
            x = step.runs.put(x, EMBEDDING[step.method].embed_out(step.runs.take(x), step.operand))
        return x

    def _word_vectors(self, plan: BatchPlan) -> Tensor:
        """Word vectors [tokens, width] on the host, each row from its own vocabulary; inserted tokens are zero."""
        groups: dict[int, tuple[Tensor, list[int]]] = {}
        for i, row in enumerate(plan.rows):
            matrix = self._words if row.embedding is None else row.embedding.matrix
            groups.setdefault(id(matrix), (matrix, []))[1].append(i)
        plain = all(row.insertion is None for row in plan.rows)
        if len(groups) == 1 and plain:
            matrix = next(iter(groups.values()))[0]
            return self._scaled(_looked_up(plan, matrix, range(len(plan.rows))), matrix)
        vectors: Tensor = self._words.new_zeros(plan.layout.tokens, self._words.shape[1])
        for matrix, members in groups.values():
            places = np.concatenate([own_tokens(plan.rows[i]) + plan.layout.starts[i] for i in members])
            found = self._scaled(_looked_up(plan, matrix, members), matrix)
            vectors.index_copy_(0, torch.from_numpy(places), found.to(vectors.dtype))
        return vectors

    def _scaled(self, vectors: Tensor, matrix: Tensor) -> Tensor:
        return vectors if self._scale == 1.0 or matrix is not self._words else vectors * self._scale

    def _pool(self, plan: BatchPlan, hidden: Tensor) -> Tensor | None:
        if not plan.pooled:
            return None
        assert self._pooler is not None  # a head that needs an absent pooler is refused at publish
        first = upload(torch.tensor([plan.layout.starts[row] for row in plan.pooled]), hidden.device)
        # Every family's pooler is a map and tanh; where tanh lies in the model differs.
        return torch.tanh(self._pooler(hidden.index_select(0, first)))


def _captured(backbone: Backbone) -> "Captured":
    if backbone.device.type != "cuda" or backbone.kernels is None:
        raise ValueError("graphs need a CUDA device and its kernels: pip install 'chorus[gpu]', or load without graphs")
    from adapters.kernels.triton.graphs import Captured, capture  # noqa: PLC0415 - as above

    return Captured(capture(torch.cuda.graph_pool_handle()), backbone.device)


def _pixels(plan: BatchPlan) -> Pixels:
    """[rows, channels, height, width] in plan order."""
    return np.stack([row.pixels for row in plan.rows if row.pixels is not None]).astype(np.float32, copy=False)


def _looked_up(plan: BatchPlan, matrix: Tensor, members: Sequence[int]) -> Tensor:
    """Word vectors of some plan rows under one matrix; raises `InvalidRows` that names those whose ids are outside."""
    ids = [plan.rows[i].input_ids.astype(np.int64) for i in members]
    try:
        return look_up(matrix, ids)
    except InvalidRow as error:
        outside = [i for i, own in zip(members, ids, strict=True) if own.min() < 0 or own.max() >= matrix.shape[0]]
        raise InvalidRows({plan.order[i]: error for i in outside}) from error


def _shares(plan: BatchPlan, states: States, want: Sequence[Want]) -> list[Tensor]:
    """Where they were computed, in the order of the rows given."""
    shares: dict[int, Tensor] = {}
    for i, given in enumerate(plan.order):
        if want[given] == "logits":
            shares[given] = states.logits[i]
        elif want[given] == "encoder_hidden_state" and states.encoded is not None:
            shares[given] = states.encoded[slice(*plan.layout.bounds(i))]
        else:
            shares[given] = states.hidden[slice(*plan.answers.bounds(i))]
    return [shares[i] for i in range(len(plan.order))]
