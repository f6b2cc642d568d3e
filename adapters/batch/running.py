"""One running pass: its plan, which rows attend to what, and what hooks hand to later hooks of the same layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.batch.attention import Packing, attend
from adapters.batch.crossing import Crossing, attend_across
from adapters.batch.past import Recorder
from adapters.batch.plan import BatchPlan
from adapters.batch.program import flat_steps
from adapters.batch.relative_bias import Distances, RunningBias
from adapters.batch.stacks import rows_in
from adapters.methods.table import ATTENTION


@dataclass(eq=False)
class Pass:
    """The state of a pass; `decoder`, `crossing` and `biases` (the encoder's first) are an encoder-decoder's."""

    plan: BatchPlan
    family: Architecture
    packing: Packing
    decoder: Packing | None = None
    crossing: Crossing | None = None
    biases: tuple[RunningBias, ...] = ()
    recorder: Recorder | None = None
    held: dict[tuple[Address, str], Tensor] = field(default_factory=dict)

    def attend(self, address: Address, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """Packed attention [tokens, heads, width] of an encoder-decoder at `attn_kv` or `cross_kv` of a layer."""
        prefixes = self.prefixes(address)
        if address.site == "cross_kv":
            assert self.crossing is not None
            if self.recorder is not None:
                prefixes = self.recorder.crossed(self._in_decoder(address), k, v, prefixes, self.crossing.keys)
            return attend_across(q, k, v, self.crossing, prefixes, scaling)
        decodes = self.family.in_decoder(address)
        packing = self.decoder if decodes else self.packing
        assert packing is not None
        bias = self.biases[decodes].at_layer(prefixes) if self.biases else None
        if decodes and self.recorder is not None:
            prefixes = self.recorder.seen(self._in_decoder(address), k, v, prefixes, None)
        return attend(q, k, v, packing, prefixes, scaling, bias=bias)

    def _in_decoder(self, address: Address) -> int:
        assert address.layer is not None
        return address.layer - self.family.encoder_layers

    def prefixes(self, address: Address, x: Tensor | None = None) -> dict[int, Tensor]:
        """[2, tokens, width] by row: the keys and values that a row sees in front of its own, last adapter first.

        x [tokens, hidden] is the attention's input, where no hook has kept it.
        """
        layout = self.plan.answers if self.family.in_decoder(address) else self.plan.layout
        found: dict[int, Tensor] = {}
        x = self.held.pop((address, "input"), x)
        for step in flat_steps(self.plan.steps.get(address, ())):
            if step.method not in ATTENTION:  # it attends beside the layer, not through it
                continue
            method, runs = ATTENTION[step.method], step.runs
            assert x is not None
            gates = method.gates(runs.take(x), step.operand)
            for place, (segment, row) in enumerate(rows_in(runs, layout)):
                more = method.keys_values(step.operand, segment)
                if gates is not None:
                    more = more * gates[place][:, None, None]
                found[row] = more if row not in found else torch.cat([more, found[row]], dim=1)
        return found


def running_pass(
    plan: BatchPlan,
    family: Architecture,
    distances: Sequence[Distances],
    recorder: Recorder | None = None,
    packing: Packing | None = None,
) -> Pass:
    """A pass that begins; `distances` are the tables of the stacks that have any.

    `recorder` knows what rows see of tokens that have been; `packing` is that of an earlier pass over the same rows.
    """
    packing = packing or Packing(plan.layout, plan.device, plan.kernels, family.causal)
    if plan.target is None:
        return Pass(plan, family, packing, recorder=recorder)
    decoder = Packing(plan.target, plan.device, plan.kernels, causal=True)
    biases = tuple(RunningBias(table, plan) for table in distances)
    return Pass(plan, family, packing, decoder, Crossing(plan.target, plan.layout, plan.device), biases, recorder)
