"""How a causal row goes on behind its past: which rows can, and what of their adapters still acts there."""

from collections.abc import Sequence
from dataclasses import replace

from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.batch.past import Past
from adapters.batch.rows import Fork, Member, Row, leaves
from adapters.methods.gate import WEIGHT
from adapters.methods.table import PLACED
from adapters.methods.tuners.lily import ROUTER
from adapters.weights import Adapter, Block, Resident


class Continuation:
    """The policy. Gates (means over a row), splits and edits of a row's last tokens depend on how a row ends.

    A row with any of them is run whole; whatever else there is works token by token, or is in the past already.
    """

    def __init__(self, family: Architecture | None = None) -> None:
        self._family = family
        self._left: dict[int, tuple[Resident, Resident]] = {}

    def keeps(self, row: Row) -> bool:
        """Whether tokens that come after the row's own change nothing that adapters did to these."""
        own = row.length if row.decoder_ids is None else len(row.decoder_ids)
        seen = own + (0 if row.past is None else row.past.tokens)
        return not _splits(row.members) and all(
            _settled(block, seen)
            for leaf in leaves(row.members)
            for address, held in leaf.adapter.blocks.items()
            if self._grows(address)
            for block in held
        )

    def _grows(self, address: Address) -> bool:
        """Whether what stands there becomes longer: an encoder's row does not."""
        family = self._family
        return family is None or family.decoder is None or family.in_decoder(address)

    def behind_second(self, row: Row, past: Past) -> Row:
        """As `behind`, of an encoder-decoder's second row."""
        assert row.decoder_ids is not None
        return replace(row, decoder_ids=row.decoder_ids[-1:], positions=(0,), past=past, encoded=None)

    def behind(self, row: Row, past: Past) -> Row:
        """The row's last token behind the past of the others, for rows that keep theirs."""
        insertion = row.insertion
        first = row.first_position if insertion is None or not insertion.shift else insertion.shift
        return replace(
            row,
            members=tuple(self._member(member) for member in row.members),
            input_ids=row.input_ids[-1:],
            positions=(0,),
            first_position=first + len(row.input_ids) - 1,
            past=past,
            called=None if row.called is None else 0,  # all that follows a call is behind it
        )

    def _member(self, member: Member) -> Member:
        if isinstance(member, Fork):
            return replace(member, arms=tuple(tuple(self._member(one) for one in arm) for arm in member.arms))
        known = self._left.get(id(member))
        if known is None:  # one for all steps, so that rows of an adapter go on together; the key's owner stays alive
            adapter = _left_of(member.adapter)
            known = self._left[id(member)] = (
                member,
                member if adapter is member.adapter else replace(member, adapter=adapter),
            )
        return known[1]


def _left_of(adapter: Adapter) -> Adapter:
    """What acts on later tokens: no block that works by place, and nothing that is put in."""
    if adapter.insertion is None and PLACED.keys().isdisjoint(adapter.methods):
        return adapter
    kept = {a: tuple(b for b in held if b.method not in PLACED) for a, held in adapter.blocks.items()}
    return replace(adapter, blocks={a: held for a, held in kept.items() if held}, insertion=None)


def _settled(block: Block, seen: int) -> bool:
    """Whether what the block did to the first `seen` tokens of a row holds whatever follows."""
    if WEIGHT in block.spans or ROUTER in block.spans:
        return False
    return block.method not in PLACED or PLACED[block.method].settled(block, seen)


def _splits(members: Sequence[Member]) -> bool:
    forks = [member for member in members if isinstance(member, Fork)]
    return any(fork.kind == "split" or any(map(_splits, fork.arms)) for fork in forks)
