"""The chains of rows at every address: which of their adapters have a block there, in which arrangement."""

from collections.abc import Hashable, Mapping, Sequence
from typing import cast

from adapters.architectures.sites import SITES, Address, SiteKind
from adapters.batch.program import Act, Chain, Element, Fan
from adapters.batch.rows import Fork, Member, Row, leaves
from adapters.errors import InvalidArrangement
from adapters.methods.biases import ADDED, BIASES
from adapters.methods.dora import GAIN
from adapters.methods.lora import IDS
from adapters.methods.table import LINEAR, METHODS
from adapters.methods.word_rows import DECODER_WORDS, WORDS
from adapters.weights import Resident

# What forks may hold at each kind of site, as in AdapterHub (and, for sums, in PEFT).
FORKS: Mapping[SiteKind, frozenset[str]] = {
    SiteKind.JUNCTION: frozenset(("fuse", "average", "split")),
    SiteKind.LINEAR: frozenset(("average", "sum")),
}
_ORDER = list(METHODS)
_FIRST_ONLY = frozenset(name for name, method in METHODS.items() if method.first_only)
SUMMED = ("lora", "delta", "lily")  # the methods whose deltas PEFT adds


def check_members(row: Row) -> None:
    """Raise `InvalidArrangement` for what holds of this row alone, whatever chains it shares with others.

    These are what rows of one shape may differ in: their routes, and whether they bring a vocabulary.
    """
    if row.embedding is None and len(row.members) < 2 and not any(isinstance(one, Fork) for one in row.members):
        return  # the common row: nothing that its adapter could disagree with
    route = row.route
    for place, leaf in enumerate(leaves(row.members)):
        insertion = leaf.adapter.insertion
        if leaf.adapter.manifest.route != route:
            raise InvalidArrangement("adapters of one row must have the same layer_replication: arrange others apart")
        if place > 0 and insertion is not None and insertion.shift:
            raise InvalidArrangement("a prompt or prefix with positions must be the first adapter of its composition")
        if row.embedding is not None and any(words in leaf.adapter.blocks for words in (WORDS, DECODER_WORDS)):
            raise InvalidArrangement(
                "the adapter changes word vectors of the backbone's own vocabulary, but the row uses another one"
            )


def chains_of(rows: Sequence[Row]) -> dict[Address, Chain]:
    """The chains by address of rows of one shape (see `shape_of`), one unit each; each passed `check_members` before.

    Raises `InvalidArrangement` where their adapters can not be arranged so.
    """
    row, members = rows[0], tuple(zip(*(row.members for row in rows), strict=True))
    firsts = tuple(row.first for row in rows)
    bringers = tuple(
        first for first in firsts if first is not None and not _FIRST_ONLY.isdisjoint(first.adapter.methods)
    )
    chains: dict[Address, Chain] = {}
    for address in dict.fromkeys(address for leaf in leaves(row.members) for address in leaf.adapter.blocks):
        if address.layer in row.skip_layers:
            continue
        chain: list[Element] = _brought(bringers, address) if bringers else []
        for member in members:
            chain += _elements(member, address, enters=True)
        if (added := _added(address, chain)) is not None:
            chains[address] = added
            continue
        if len(chain) > 1 or (chain and isinstance(chain[0], Fan)):  # nothing can be wrong with one adapter alone
            _check(address, chain)
        if chain:
            chains[address] = tuple(chain)
    if any(SITES[address.site] is SiteKind.NORM for address in chains):
        _check_norms(chains)
    return chains


def _added(address: Address, chain: Sequence[Element]) -> Chain | None:
    """A sum of single adapters at a map, which PEFT runs one after the other, each on its own; None where there is none.

    The order counts where one is DoRA: it stretches what those before it made. Raises `InvalidArrangement`.
    """
    if len(chain) != 1 or not isinstance(chain[0], Fan) or chain[0].kind != "sum":
        return None
    if SITES[address.site] is not SiteKind.LINEAR or not all(
        len(arm) == 1 and isinstance(arm[0], Act) for arm in chain[0].arms
    ):
        return None
    acts = _acts(chain[0].arms)
    for act in acts if len(acts) > 1 else ():
        if not _summed(act, stretched=True):
            raise InvalidArrangement(f"{act.block.method} has no sum: its adapters can not be arranged so at {address}")
    return tuple(act._replace(enters=True, apart=True) for act in acts)


def _check_norms(chains: Mapping[Address, Chain]) -> None:
    """Refuse adapters that work with the frozen norms beside one that replaces them: no library says what they see."""
    taken = [address for address in chains if SITES[address.site] is SiteKind.JUNCTION]
    if taken:
        raise InvalidArrangement(f"an adapter that replaces norms can not be arranged with one that acts at {taken[0]}")


def _brought(firsts: tuple[Resident, ...], address: Address) -> list[Element]:
    """What the first adapters alone bring, in the order of the table of methods."""
    blocks = [block for block in firsts[0].adapter.blocks.get(address, ()) if block.method in _FIRST_ONLY]
    blocks.sort(key=lambda block: _ORDER.index(block.method))
    return [Act(firsts, block) for block in blocks]


def key_of(row: Row) -> tuple[Hashable, ...]:
    """Rows with equal keys have equal chains; keys that agree from the left on share their lower adapters."""
    keys: list[Hashable] = [row.route]
    for member in row.members:
        if isinstance(member, Resident):
            keys += [member.adapter.signature, id(member)]
        else:
            keys.append(_shape(member))
    return (*keys, row.skip_layers)


def shape_of(row: Row) -> Hashable | None:
    """Rows of equal shapes have chains that differ only in who brings the blocks; None: the row forks."""
    if not all(isinstance(member, Resident) for member in row.members):
        return None
    return (*[member.adapter.signature for member in row.members if isinstance(member, Resident)], row.skip_layers)


def _shape(member: Member) -> Hashable:
    if isinstance(member, Resident):
        return id(member)
    arms = tuple(tuple(_shape(one) for one in arm) for arm in member.arms)
    return (member.kind, arms, member.chained, member.weights, member.splits, id(member.fusion))


def _elements(members: tuple[Member, ...], address: Address, *, enters: bool) -> list[Element]:
    """What the members at one place of the rows' compositions do at an address."""
    member = members[0]
    if isinstance(member, Resident):
        blocks = member.adapter.blocks.get(address, ())
        residents = cast("tuple[Resident, ...]", members)  # of one signature each
        return [Act(residents, block, enters) for block in blocks if block.method not in _FIRST_ONLY]
    arms = tuple(
        tuple(element for one in arm for element in _elements((one,), address, enters=chained))
        for arm, chained in zip(member.arms, member.chained, strict=True)
    )
    held = tuple(arm for arm in arms if arm)
    if not held:
        return []
    if len(held) < len(arms) and member.kind in ("average", "split"):
        raise InvalidArrangement(
            f"the adapters of an {member.kind} must act at the same places; at {address} only some do"
        )
    return [Fan(member.kind, held, member.weights, member.splits, _fusion(member, address))]


def _fusion(fork: Fork, address: Address) -> Act | None:
    if fork.fusion is None:
        return None
    blocks = fork.fusion.adapter.blocks.get(address, ())
    if not blocks:
        raise InvalidArrangement(f"the fusion has no layer at {address}, where its adapters act")
    return Act((fork.fusion,), blocks[0])


def _check(address: Address, chain: Sequence[Element], *, follows: bool = False) -> None:
    """Raise `InvalidArrangement` for what can not be arranged so; `follows`: the chain's first element has one below it."""
    kind = SITES[address.site]
    for place, element in enumerate(chain):
        below = follows or place > 0
        if isinstance(element, Fan):
            _check_fan(address, kind, element, follows=below)
        elif kind is SiteKind.LINEAR and (below or len(chain) > 1):
            _chainable(address, element, first=not below)
        elif kind is SiteKind.NORM and below:
            raise InvalidArrangement(f"two adapters replace the norm at {address}")


def _check_fan(address: Address, kind: SiteKind, fan: Fan, *, follows: bool) -> None:
    method = fan.first.block.method
    if fan.kind not in FORKS.get(kind, ()) or (fan.kind == "sum" and not all(map(_summed, _acts(fan.arms)))):
        raise InvalidArrangement(f"{method} has no {fan.kind}: its adapters can not be arranged so at {address}")
    if kind is SiteKind.LINEAR:
        for act in _acts(fan.arms):
            _chainable(address, act, first=True)  # what arms make is combined as the states of a chain are
    for arm in fan.arms:
        _check(address, arm, follows=follows)


def _acts(chains: Sequence[Chain]) -> list[Act]:
    """Every adapter of the arms of a fork."""
    elements = [element for chain in chains for element in chain]
    inner = [act for element in elements if isinstance(element, Fan) for act in _acts(element.arms)]
    return inner + [element for element in elements if isinstance(element, Act)]


def _summed(act: Act, *, stretched: bool = False) -> bool:
    """Whether PEFT adds what the adapter makes: a plain delta, or DoRA's if `stretched`, and not what turns the map."""
    if act.block.method == BIASES.name:
        return act.block.variant == ADDED
    plain = stretched or GAIN not in act.block.spans
    return act.block.method in SUMMED and act.block.variant in (None, IDS) and plain


def _chainable(address: Address, act: Act, *, first: bool) -> None:
    if not LINEAR[act.block.method].chains(act.block, first=first):
        part = "be followed by" if first else "follow"
        raise InvalidArrangement(
            f"{act.block.method} can not {part} another adapter at {address}: a chain passes the output on as input, "
            "which needs a square map, and no factor or rotation of inputs"
        )
