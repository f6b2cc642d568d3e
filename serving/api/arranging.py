"""Which methods a block may hold, told from manifests: what the backbone refuses for every row is refused before.

The library finds the same when it plans a row (`adapters.batch.chains`), where it sees every site; here no torch is
needed.
"""

from collections.abc import Mapping

from adapters.composition import BLOCKS, Average, Fuse, Leaf, Split, Sum, leaves
from adapters.manifest import Manifest, PartSpec
from adapters.refs import Reference
from serving.api.naming import Named
from serving.errors import Unprocessable

# Methods that act for the first adapter of a composition alone: they stand beside every block, and not in it.
FIRST_ONLY = frozenset(("invertible", "multitask_prompt", "past_prefix", "prompt_tuning", "reft", "word_prompt"))
_LOW_RANK = frozenset(("lora", "vera", "mtl_lora"))
# PEFT's tuners that add to a frozen map; those that turn it (BOFT, HRA, OFT, RoAd) are arranged with nothing.
_ADDING = frozenset(("adalora", "c3a", "delora", "delta", "fourierft", "gralora", "hira", "loha", "lokr", "miss"))
_ADDING |= {
    "beft",
    "deft",
    "frod",
    "osf",
    "peanut",
    "poly",
    "psoft",
    "pvera",
    "randlora",
    "shira",
    "supertuning",
    "tinylora",
}
_ADDING |= {"adamss", "glora", "lily", "unilora", "vblora", "vera_vectors", "waveft"}
WHOLE = "/adapters"
_SEQUENTIAL = frozenset(("bottleneck", "compacter"))
METHODS: Mapping[type[Fuse | Average | Split | Sum], frozenset[str]] = {
    Fuse: _SEQUENTIAL,
    Average: _SEQUENTIAL | _LOW_RANK | _ADDING | {"ia3"},
    Split: _SEQUENTIAL,
    Sum: _LOW_RANK | _ADDING,
}


def check_arrangement(names: Named, adapters: Mapping[Reference, Manifest]) -> None:
    """Raise `Unprocessable`, with a pointer to the block, for adapters that can not be arranged so."""
    for block, pointer in names.places:
        if not isinstance(block, Fuse | Average | Split | Sum):
            continue
        allowed = METHODS[type(block)]
        # As in PEFT a sum that is all of the composition runs its adapters in turn, which DoRA may stretch.
        added = isinstance(block, Sum) and not (pointer == WHOLE and all(isinstance(c, Leaf) for c in block.children))
        for leaf in leaves(block):
            assert isinstance(leaf.ref, Reference), "a client writes references"
            for part in adapters[leaf.ref].parts:
                if part.method not in allowed | FIRST_ONLY or (added and _decomposed(part)):
                    kind = next(name for name, cls in BLOCKS.items() if cls is type(block))
                    made = f"{part.method} with DoRA" if part.method in allowed else part.method
                    detail = f"{leaf.ref} is made of {made}, of which there is no {kind}: it holds {_listed(allowed)}"
                    raise Unprocessable(detail, code="unsupported_composition", pointer=pointer)


def _decomposed(part: PartSpec) -> bool:
    """Whether DoRA stretches what the adapter makes at some site: no delta that could be added."""
    sites = part.config.get("sites")
    held = sites.values() if isinstance(sites, Mapping) else ()
    return any(isinstance(site, Mapping) and site.get("dora", "none") != "none" for site in held)


def _listed(methods: frozenset[str]) -> str:
    return ", ".join(sorted(methods))
