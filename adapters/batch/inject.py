"""Hooks, put once on the frozen backbone; they only read the plan that is bound for the running pass."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from adapters.architectures.geometry import Geometry
from adapters.architectures.record import Architecture, Junction
from adapters.architectures.sites import SITES, TABLES, Address, SiteKind
from adapters.batch import beside, disentangled, post_norm, stacks
from adapters.batch.attention import PACKED, Packing, attend
from adapters.batch.junctions import run_junction
from adapters.batch.lanes import diverted, replaced_norms
from adapters.batch.linears import run_linear, run_part
from adapters.batch.norms import run_norm
from adapters.batch.past import Recorder
from adapters.batch.plan import BatchPlan
from adapters.batch.program import flat_steps
from adapters.batch.relative_bias import Distances
from adapters.batch.running import Pass, running_pass
from adapters.batch.tables import run_patches
from adapters.errors import UnknownArchitecture
from adapters.methods.base import BaseMap, Meeting
from adapters.methods.table import EMBEDDING, LAYER


class Injection:
    """The hooks of one model. `bind` makes a plan the running one; passes do not nest."""

    def __init__(self, model: nn.Module, architecture: Architecture, geometry: Geometry) -> None:
        self._pass: Pass | None = None
        self._modules = dict(model.named_modules())
        entrance: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
        self.dtype = next(entrance.parameters()).dtype
        self._architecture, self._layers = architecture, (layers := geometry.layers)
        _check_paths(architecture, layers, self._modules)
        self._distances = tuple(
            Distances(self._modules[path], causal=bool(stack)) for stack, path in enumerate(architecture.relative_bias)
        )
        stacks.install(architecture, self._modules, self)
        if architecture.embeddings is not None:
            self._modules[architecture.embeddings].register_forward_hook(self._embedding_hook)
        for layer in range(layers):
            self._hook_layer(layer, layers)
        if architecture.attention_kind == "disentangled":
            paths = [f"{architecture.layer_path(layer)}.{architecture.attention}" for layer in range(layers)]
            disentangled.install(model, [self._modules[path] for path in paths], self)
        if architecture.post_norm:
            post_norm.install(architecture, geometry, self._modules, self)
        for site, path in (("embed_map", architecture.embed_map), ("pooler", architecture.pooler)):
            if path is not None and path in self._modules:
                self._modules[path].register_forward_hook(self._linear_hook(Address(None, site), None))

    @contextmanager
    def bind(self, plan: BatchPlan, recorder: Recorder | None = None, packing: Packing | None = None) -> Iterator[None]:
        """Run one pass under a plan; one that is captured in the midst of another brings its own packing.

        `recorder` knows what rows see of tokens that have been.
        """
        outer = self._pass
        if outer is not None and packing is None:
            raise RuntimeError("a pass is already running on this backbone")
        self._show(plan, recorder, packing)
        try:
            with ExitStack() as hooks:
                if plan.lanes:
                    hooks.enter_context(diverted(plan, self._architecture, self._layers, self._modules, self._show))
                for address in replaced_norms(plan):  # only while they are wanted: a hook costs its call in every pass
                    module = self._modules[self._architecture.own_norm_path(address)]
                    hooks.callback(module.register_forward_hook(self._norm_hook(address, module)).remove)
                for address, added in beside.hooks(plan, self._running, self.base_map):
                    module = self._modules[self._architecture.attention_path(address)]
                    hooks.callback(module.register_forward_hook(added).remove)
                yield
        finally:
            self._pass = outer

    def _show(self, plan: BatchPlan, recorder: Recorder | None = None, packing: Packing | None = None) -> None:
        same = self._pass is not None and self._pass.plan.layout is plan.layout
        known = self._pass.packing if packing is None and same and self._pass is not None else packing
        self._pass = running_pass(plan, self._architecture, self._distances, recorder, known)

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scaling: float,
        x: Tensor | None = None,
        window: int | None = None,
    ) -> Tensor:
        """Packed attention of the running pass [tokens, hidden]; q, k, v [tokens, heads (k, v: key heads), width].

        x [tokens, hidden] is what they were made of, where no hook has kept it.
        """
        before, recorder = self.prefixes(layer, x), self._running().recorder
        beside.keep(self._running(), Address(layer, "attn_kv"), q)
        if recorder is not None:
            before = recorder.seen(layer, k, v, before, window)
        return attend(q, k, v, self.packing, before, scaling, window).flatten(1)

    def attend_stack(self, address: Address, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """The same in an encoder-decoder: of its encoder, its decoder, or (`cross_kv`) from one to the other."""
        return self._running().attend(address, q, k, v, scaling).flatten(1)

    def base_map(self, address: Address) -> BaseMap:
        """The frozen map at a linear site, or the frozen norm."""
        if SITES[address.site] is SiteKind.NORM:
            norm = post_norm.norm_of(self._modules[self._architecture.own_norm_path(address)])
            return BaseMap(norm.weight, torch.zeros_like(norm.weight) if norm.bias is None else norm.bias)
        module, part = self._modules[self._architecture.linear_path(address)], self._architecture.fused(address)
        weight: Tensor = _rows_of(module.weight, part)
        if address.site in TABLES:
            return BaseMap(weight.T, weight.new_zeros(weight.shape[1]))
        bias = weight.new_zeros(len(weight)) if module.bias is None else _rows_of(module.bias, part)
        return BaseMap(weight, bias)

    @property
    def plan(self) -> BatchPlan:
        """The plan of the running pass."""
        return self._running().plan

    @property
    def packing(self) -> Packing:
        """Which rows of the running pass attend in one call."""
        return self._running().packing

    def _running(self) -> Pass:
        if self._pass is None:
            raise RuntimeError("the backbone runs only under a plan; use Backbone.forward")
        return self._pass

    def _hook_layer(self, layer: int, layers: int) -> None:
        family, modules = self._architecture, self._modules
        inside = family.layer_path(layer)
        stack = family.stack(layer)
        for site in stack.linear:
            address = Address(layer, site)
            hook = self._linear_hook(address, family.fused(address))
            modules[family.linear_path(address)].register_forward_hook(hook)
        for site, junction in stack.junctions.items():
            address = Address(layer, site)
            self._hook_junction(inside, address, junction, family.norm_path(address, layers))
        for site in ("attn_kv", "cross_kv") if layer in family.crossing(layers) else ("attn_kv",):
            address = Address(layer, site)
            attention = modules[family.attention_path(address)]
            attention.chorus = (self, address)  # read back by `_packed_attention`
            attention.register_forward_pre_hook(self._attention_hook(address), with_kwargs=True)
        modules[inside].register_forward_hook(self._layer_hook(Address(layer, "layer_out")))

    def prefixes(self, layer: int, x: Tensor | None = None) -> dict[int, Tensor]:
        """[2, tokens, width] by row: the keys and values that a row sees in front of its own, last adapter first."""
        return self._running().prefixes(Address(layer, "attn_kv"), x)

    def _attention_hook(self, address: Address) -> Any:
        def keep_input(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            running = self._running()
            if address in running.plan.steps:
                running.held[address, "input"] = _flat(args[0] if args else kwargs["hidden_states"])

        return keep_input

    def embedded(self, vectors: Tensor) -> Tensor:
        """What the layers get of word vectors [1, tokens, width], in families where nothing stands between them."""
        return vectors if self._architecture.embeddings is not None else self._embedding_hook(None, None, vectors)

    def _embedding_hook(self, module: nn.Module | None, args: Any, output: Tensor) -> Tensor:
        plan = self._running().plan
        x = _flat(output).to(self.dtype)  # sums of words, positions and segments are as wide as the widest of them
        x = run_patches(plan, plan.spread(x))
        for step in flat_steps(plan.steps.get(Address(None, "embed_out"), ())):
            x = step.runs.put(x, EMBEDDING[step.method].embed_out(step.runs.take(x), step.operand))
        return x.unsqueeze(0)  # images come as a batch, and go on as one packed row

    def _layer_hook(self, address: Address) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            steps = flat_steps(self._running().plan.steps.get(address, ()))
            if not steps:
                return output
            whole = output[0] if isinstance(output, tuple) else output
            h = _flat(whole)
            for step in steps:
                h = step.runs.put(h, LAYER[step.method].layer_out(step.runs.take(h), step.operand))
            return (h.view(whole.shape), *output[1:]) if isinstance(output, tuple) else h.view(whole.shape)

        return hook

    def _linear_hook(self, address: Address, part: tuple[int, int] | None) -> Any:
        def hook(module: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            program = self._running().plan.steps.get(address)
            if not program:
                return output
            x, y = _flat(args[0]), _flat(output)
            if part is None:
                return run_linear(program, x, y, module.weight).view(output.shape)
            return run_part(program, x, y, _rows_of(module.weight, part), part[0]).view(output.shape)

        return hook

    def _norm_hook(self, address: Address, module: nn.Module) -> Any:
        norm = post_norm.norm_of(module)

        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            program = self._running().plan.steps.get(address)  # none in the lanes of other rows
            return run_norm(program, _tokens(args[0]), _tokens(output), norm).view(output.shape) if program else output

        return hook

    def _hook_junction(self, inside: str, address: Address, junction: Junction, path: str | None) -> None:
        def keep_residual(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            running = self._running()
            if address in running.plan.steps:
                running.held[address, "residual"] = _flat(args[0])

        def keep_sublayer(module: nn.Module, args: Any, output: Tensor) -> None:
            running = self._running()
            if address in running.plan.steps:
                running.held[address, "sublayer"] = _flat(output)

        def meet(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            running = self._running()
            program = running.plan.steps.get(address)
            if not program:
                return output
            y, r = _flat(output), running.held.pop((address, "residual"))
            f = running.held.pop((address, "sublayer")) if junction.adds else y
            if junction.swapped:
                f, r = r, f
            meeting = Meeting(f, r, norm, y if junction.adds else None, junction.adds, junction.removable)
            return run_junction(program, meeting, y).view(output.shape)

        modules = self._modules
        norm = None if path is None else post_norm.norm_of(modules[path])
        modules[f"{inside}.{junction.residual}"].register_forward_pre_hook(keep_residual)
        # Behind the linear hook of the same module, so that f has the adapters of the linear site in it.
        if junction.adds:
            modules[f"{inside}.{junction.sublayer}"].register_forward_hook(keep_sublayer)
            assert path is not None
            modules[path].register_forward_hook(meet)
        else:
            modules[f"{inside}.{junction.sublayer}"].register_forward_hook(meet)


def register_attention() -> None:
    """Tell transformers of packed attention; harmless when done again."""
    AttentionInterface.register(PACKED, _packed_attention)


def _packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    injection, address = module.chorus  # type: ignore[misc]  # set by `Injection`
    q, k, v = (t.squeeze(0).transpose(0, 1) for t in (query, key, value))
    if injection.plan.target is not None:
        return injection.attend_stack(address, q, k, v, scaling).view(1, *q.shape), None
    out = injection.attend(address.layer, q, k, v, scaling, window=kwargs.get("sliding_window"))
    return out.view(1, *q.shape), None


def _rows_of(weight: Any, part: tuple[int, int] | None) -> Tensor:
    """The rows of a fused map's weight that one site owns."""
    whole: Tensor = weight
    return whole if part is None else whole.chunk(part[1])[part[0]]


def _flat(x: Tensor) -> Tensor:
    """[1, tokens, width] or [tokens, width] as [tokens, width]."""
    return x.reshape(-1, x.shape[-1])


def _tokens(x: Tensor) -> Tensor:
    """As `_flat`; [1, tokens, heads, width] as [tokens, heads, width]."""
    return x.flatten(0, -3) if x.dim() > 3 else _flat(x)


def _check_paths(architecture: Architecture, layers: int, modules: dict[str, nn.Module]) -> None:
    missing = [path for path in dict.fromkeys(architecture.paths(layers)) if path not in modules]
    if missing:
        raise UnknownArchitecture(
            f"the record of {architecture.model_type} names modules that the model lacks: {', '.join(missing)}"
        )
