"""Hooks, put once on the frozen backbone; they only read the plan that is bound for the running pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from adapters.architectures.record import Architecture, Junction
from adapters.architectures.sites import Address
from adapters.batch.attention import PACKED, Packing, attend
from adapters.batch.plan import BatchPlan
from adapters.errors import UnknownArchitecture
from adapters.kernels.runs import Runs
from adapters.methods.table import ATTENTION, EMBEDDING, JUNCTION, LINEAR


@dataclass(eq=False)
class Pass:
    """One running pass: its plan, and what hooks hand to later hooks of the same layer."""

    plan: BatchPlan
    packing: Packing
    held: dict[tuple[Address, str], Tensor] = field(default_factory=dict)


class Injection:
    """The hooks of one model. `bind` makes a plan the running one; passes do not nest."""

    def __init__(self, model: nn.Module, architecture: Architecture, layers: int) -> None:
        self._pass: Pass | None = None
        modules = dict(model.named_modules())
        _check_paths(architecture, layers, modules)
        modules[architecture.embeddings].register_forward_hook(self._embedding_hook)
        for layer in range(layers):
            inside = architecture.layer_path(layer)
            for site, path in architecture.linear.items():
                modules[f"{inside}.{path}"].register_forward_hook(self._linear_hook(Address(layer, site)))
            for site, junction in architecture.junctions.items():
                self._hook_junction(modules, inside, Address(layer, site), junction)
            attention = modules[f"{inside}.{architecture.attention}"]
            attention.chorus = (self, layer)  # read back by `_packed_attention`
        if architecture.pooler is not None and architecture.pooler in modules:
            hook = self._linear_hook(Address(None, "pooler"))
            modules[architecture.pooler].register_forward_hook(hook)

    @contextmanager
    def bind(self, plan: BatchPlan) -> Iterator[None]:
        """Run one pass under a plan."""
        if self._pass is not None:
            raise RuntimeError("a pass is already running on this backbone")
        self._pass = Pass(plan, Packing(plan.layout, plan.device))
        try:
            yield
        finally:
            self._pass = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """Packed attention of the running pass; q, k, v [1, heads, tokens, width] -> [1, tokens, heads, width]."""
        running = self._running()
        prefixes: dict[int, Tensor] = {}
        steps = running.plan.steps.get(Address(layer, "attn_kv"), ())
        for step in steps:
            method = ATTENTION[step.method]
            for segment, row in _rows_of(step.operand.runs, running.plan):
                more = method.keys_values(step.operand, segment)
                prefixes[row] = more if row not in prefixes else torch.cat([more, prefixes[row]], dim=1)
        flat = [t.squeeze(0).transpose(0, 1) for t in (q, k, v)]
        out = attend(flat[0], flat[1], flat[2], running.packing, prefixes, scaling)
        return out.unsqueeze(0)

    def _running(self) -> Pass:
        if self._pass is None:
            raise RuntimeError("the backbone runs only under a plan; use Backbone.forward")
        return self._pass

    def _embedding_hook(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        steps = self._running().plan.steps.get(Address(None, "embed_out"), ())
        if not steps:
            return output
        x = _flat(output)
        for step in steps:
            taken = step.operand.runs.take(x)
            x = step.operand.runs.put(x, EMBEDDING[step.method].embed_out(taken, step.operand))
        return x.view(output.shape)

    def _linear_hook(self, address: Address) -> Any:
        def hook(module: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            steps = self._running().plan.steps.get(address)
            if not steps:
                return output
            x, y = _flat(args[0]), _flat(output)
            for step in steps:
                runs = step.operand.runs
                before = runs.take(x)
                after, values = LINEAR[step.method].linear(before, runs.take(y), module.weight, step.operand)
                y = runs.put(y, values)
                if after is not before and not step.operand.final:
                    x = runs.put(x.clone(), after)
            return y.view(output.shape)

        return hook

    def _hook_junction(self, modules: dict[str, nn.Module], inside: str, address: Address, junction: Junction) -> None:
        def keep_residual(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            running = self._running()
            if address in running.plan.steps:
                running.held[address, "residual"] = _flat(args[0])

        def keep_sublayer(module: nn.Module, args: Any, output: Tensor) -> None:
            running = self._running()
            if address in running.plan.steps:
                running.held[address, "sublayer"] = _flat(output)

        def meet(module: nn.LayerNorm, args: Any, output: Tensor) -> Tensor:
            running = self._running()
            steps = running.plan.steps.get(address)
            if not steps:
                return output
            f, r = running.held.pop((address, "sublayer")), running.held.pop((address, "residual"))
            return _junction(steps, f, r, _flat(output), module).view(output.shape)

        modules[f"{inside}.{junction.residual}"].register_forward_pre_hook(keep_residual)
        # Behind the linear hook of the same module, so that f has the adapters of the linear site in it.
        modules[f"{inside}.{junction.sublayer}"].register_forward_hook(keep_sublayer)
        modules[f"{inside}.{junction.norm}"].register_forward_hook(meet)


def register_attention() -> None:
    """Tell transformers of packed attention; harmless when done again."""
    AttentionInterface.register(PACKED, _packed_attention)


def _packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    injection, layer = module.chorus  # type: ignore[misc]  # set by `Injection`
    return injection.attend(layer, query, key, value, scaling), None


def _junction(steps: Any, f: Tensor, r: Tensor, y: Tensor, module: nn.LayerNorm) -> Tensor:
    def norm(x: Tensor) -> Tensor:
        return functional.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)

    h = f
    for step in steps:
        runs, method = step.operand.runs, JUNCTION[step.method]
        normed = runs.take(y) if h is f else None
        out = method.junction(runs.take(h), runs.take(f), runs.take(r), norm, normed, step.operand)
        if step.operand.final:
            y = runs.put(y, out)
        else:
            h = runs.put(h.clone(), out)
    return y


def _rows_of(runs: Runs, plan: BatchPlan) -> Iterator[tuple[int, int]]:
    row_at = {start: row for row, start in enumerate(plan.layout.starts[:-1])}
    for segment, (start, end) in enumerate(runs.bounds):
        row = row_at[start]
        while row < plan.layout.rows and plan.layout.starts[row] < end:
            yield segment, row
            row += 1


def _flat(x: Tensor) -> Tensor:
    """[1, tokens, width] or [tokens, width] as [tokens, width]."""
    return x.reshape(-1, x.shape[-1])


def _check_paths(architecture: Architecture, layers: int, modules: dict[str, nn.Module]) -> None:
    wanted = [architecture.embeddings]
    for layer in range(layers):
        inside = architecture.layer_path(layer)
        wanted.append(f"{inside}.{architecture.attention}")
        wanted += [f"{inside}.{path}" for path in architecture.linear.values()]
        for junction in architecture.junctions.values():
            wanted += [f"{inside}.{path}" for path in (junction.sublayer, junction.residual, junction.norm)]
    missing = [path for path in wanted if path not in modules]
    if missing:
        raise UnknownArchitecture(
            f"the record of {architecture.model_type} names modules that the model lacks: {', '.join(missing)}"
        )
