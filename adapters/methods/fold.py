"""From a stored package to a folded adapter: what a package must hold, and what a pass needs of it."""

from dataclasses import replace

import torch
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.architectures.profile import BackboneProfile
from adapters.architectures.sites import Address
from adapters.embeddings import MATRIX
from adapters.errors import Misfit
from adapters.heads.table import head_reasons, head_shapes
from adapters.manifest import ENCODER_TOKENS, HeadSpec, Manifest, PartSpec
from adapters.methods.base import BaseMap, BaseMaps, Fitting
from adapters.methods.biases import BESIDE, BIASES, own_biases, with_shift
from adapters.methods.fusion import FUSION
from adapters.methods.table import METHODS
from adapters.weights import Adapter, Folded, Insertion, Package, pack

# The heads that AdapterHub has for encoder-decoders.
_DECODED = ("classification", "multilabel_classification", "question_answering", "seq2seq_lm")

LONGEST_ROUTE = 8  # times the layers of the backbone
_ROUTED = ("lora", "norms", "biases", "maps", "word_rows", "tables")  # what PEFT has on replicated layers


def fitting_of(profile: BackboneProfile, base: BaseMaps | None = None, route: tuple[int, ...] | None = None) -> Fitting:
    """The backbone as methods see it, with its frozen weights where it is loaded; raises `UnknownArchitecture`.

    Under a route it has a layer for each of the route's places.
    """
    geometry = profile.geometry
    maps = base if base is None or route is None else _along(base, route)
    return Fitting(geometry.along(route), geometry.architecture, maps)


def _along(base: BaseMaps, route: tuple[int, ...]) -> BaseMaps:
    def visited(address: Address) -> BaseMap:
        return base(address if address.layer is None else Address(route[address.layer], address.site))

    return visited


def expected(manifest: Manifest, profile: BackboneProfile) -> dict[str, tuple[int, ...]]:
    """Every tensor that a package must hold, with its shape; raises `Misfit` with every reason."""
    reasons = _requirements(manifest, profile)
    misled = _route(manifest, profile)
    if misled:
        raise Misfit(reasons + misled)  # nothing can be said of layers that are not there
    fitting = fitting_of(profile, route=manifest.route)
    shapes: dict[str, tuple[int, ...]] = {}
    geometry = profile.geometry
    owners: dict[str, str] = {}
    for part in manifest.parts:
        try:
            found = _method_shapes(part, fitting)
        except Misfit as misfit:
            reasons.extend(misfit.reasons)
            continue
        reasons.extend(f"two parts store {name}" for name in found if name in shapes)
        shapes |= found
        # A part stores something at each of its sites. On embeddings two methods have an order; nowhere else.
        for site in sorted({name.rsplit("/", 1)[0] for name in found} - {"model/embed_out"}):
            owner = owners.setdefault(site, part.method)
            if owner != part.method and not (owner in BESIDE and part.method == BIASES.name):
                reasons.append(f"{owners[site]} and {part.method} both act at {site}, in no defined order")
    if manifest.head is not None:
        reasons.extend(head_reasons(manifest.head, geometry.hidden_size, has_pooler=profile.has_pooler))
        reasons.extend(_tied(manifest.head, geometry))
        shapes |= head_shapes(manifest.head, geometry.hidden_size)
    if manifest.embedding is not None:
        if geometry.image is not None:
            reasons.append("the backbone reads images, and has no use for a vocabulary")
        if manifest.embedding.width != geometry.embedding_size:
            width = manifest.embedding.width
            reasons.append(f"the embedding is {width} wide; the backbone's are {geometry.embedding_size}")
        shapes[MATRIX] = (manifest.embedding.vocabulary, manifest.embedding.width)
    if reasons:
        raise Misfit(reasons)
    return shapes


def fold(package: Package, profile: BackboneProfile, dtype: torch.dtype, base: BaseMaps | None = None) -> Adapter:
    """Fold every part, and lay the result out for a slot. Differentiable in the package's tensors.

    `base` gives the frozen weights that some folds depend on (`Backbone.base_maps`). Without it the result has the
    right size, and is what it will be only if no fold depends on them: enough to check a package, not to serve it.
    """
    fitting = fitting_of(profile, base, package.manifest.route)
    folded: dict[Address, tuple[Folded, ...]] = {}
    insertion: Insertion | None = None
    tuned: set[Address] = set()  # by a tuner whose maps may have other biases
    biased = replace(fitting, biases=own_biases(package.manifest.parts, package.tensors))
    for part in package.manifest.parts:
        method = METHODS[part.method]
        found = method.fold(part.config, package.tensors, biased if part.method in BESIDE else fitting)
        for address, item in found.items():
            before = folded.get(address, ())
            if part.method == BIASES.name and address in tuned:
                folded[address] = (with_shift(before[0], item),)
            else:
                folded[address] = (*before, item)
        tuned |= folded.keys() if part.method in BESIDE else set()
        insertion = method.insertion(part.config) or insertion
    head = {name.removeprefix("head/").replace("/", "."): t for name, t in _head_tensors(package).items()}
    return pack(package.manifest, folded, package.manifest.head, head, insertion, dtype)


def _head_tensors(package: Package) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in package.tensors.items() if name.startswith("head/")}


def _method_shapes(part: PartSpec, fitting: Fitting) -> dict[str, tuple[int, ...]]:
    method = METHODS.get(part.method)
    if method is None:
        raise Misfit([f"method {part.method!r} is not served; served are {', '.join(METHODS)}"])
    if part.method in fitting.architecture.refuses:
        raise Misfit([f"{part.method}: {fitting.architecture.refuses[part.method]}"])
    return method.shapes(part.config, fitting)


def _tied(head: HeadSpec, geometry: Geometry) -> list[str]:
    """A tied head is the table itself: the tokens that adapters train are among its outputs."""
    table = (1, False, geometry.vocabulary, geometry.embedding_size)
    if not head.tied or (head.layers, head.bias, head.vocabulary, head.width) == table:
        return []
    return [
        f"manifest.head.tied belongs to a head of one layer without a bias over the backbone's {geometry.vocabulary} words"
    ]


def _head_place(head: HeadSpec, *, decodes: bool) -> list[str]:
    """Heads of an encoder-decoder are those that AdapterHub has there, and read its decoder's states.

    transformers has one over its encoder's.
    """
    if not decodes:
        only = head.pooling in ("last_eos", ENCODER_TOKENS) or head.type == "seq2seq_lm"
        return [f"a {head.type} head that pools {head.pooling!r} needs an encoder-decoder"] if only else []
    if head.pooling == ENCODER_TOKENS and head.type == "tagging":
        return []
    if head.type not in _DECODED or head.pooling not in ("last_eos", "tokens"):
        return [f"an encoder-decoder has no {head.type} head that pools {head.pooling!r}"]
    return []


def _requirements(manifest: Manifest, profile: BackboneProfile) -> list[str]:
    needs, has = manifest.requires, profile.geometry
    pairs = (
        ("model type", needs.model_type, has.model_type),
        ("hidden size", needs.hidden_size, has.hidden_size),
        ("number of layers", needs.layers, has.layers),
        ("number of attention heads", needs.heads, has.heads),
        ("number of layers in its encoder", needs.encoder_layers, has.encoder_layers),
        ("gated feed-forwards", needs.gated, has.gated),
    )
    reasons = [f"made for {what} {need!r}, but the backbone has {held!r}" for what, need, held in pairs if need != held]
    if manifest.head is not None:
        reasons += _head_place(manifest.head, decodes=bool(has.encoder_layers))
    fusions = [part for part in manifest.parts if part.method == FUSION.name]
    waiting = [part.method for part in manifest.parts if "invocation" in part.config]
    if waiting and (len(manifest.parts) > 1 or manifest.route is not None):
        reasons.append("an adapter with an invocation has one part and no route: all of it waits for the call")
    if manifest.kind == "fusion" and (len(manifest.parts), len(fusions)) != (1, 1):
        reasons.append("a fusion holds exactly one part, of the method 'fusion'")
    if manifest.kind != "fusion" and fusions:
        reasons.append(f"a part of the method 'fusion' belongs to a package of kind 'fusion', not {manifest.kind!r}")
    return reasons


def _route(manifest: Manifest, profile: BackboneProfile) -> list[str]:
    """What stands against the route of a package; adapters that know of no route have none."""
    route, geometry = manifest.route, profile.geometry
    if route is None:
        return []
    reasons: list[str] = []
    if not geometry.architecture.replicable or geometry.encoder_layers:
        reasons.append(f"the layers of {geometry.model_type} can not be replicated: each is bound to its place")
    if not route or len(route) > LONGEST_ROUTE * geometry.layers:
        reasons.append(f"a route of {len(route)} layers; 1 to {LONGEST_ROUTE * geometry.layers} can be run")
    absent = sorted({layer for layer in route if not 0 <= layer < geometry.layers})[:5]
    reasons += [f"the route visits layer {layer}; the backbone has 0 to {geometry.layers - 1}" for layer in absent]
    others = sorted({part.method for part in manifest.parts} - set(_ROUTED))
    reasons += [f"{method} can not act on replicated layers: PEFT has LoRA there" for method in others]
    if manifest.kind != "adapter":
        reasons.append(f"a package of kind {manifest.kind!r} has no route")
    return reasons
