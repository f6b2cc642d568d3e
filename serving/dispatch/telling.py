"""What one gateway found out of suspects, until the others have heard it."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from serving.dispatch.ports import News, Peers
from serving.dispatch.suspects import Suspects


class Telling:
    """Rows by content that were suspected, cleared or convicted here, and of which `tell` is to tell all gateways.

    What a telling that failed was to tell is told again by the next one; so is what was found out while one was under
    way. A gateway that does not answer in time counts as told: it is told again with its next claim, or ours.
    """

    def __init__(self, suspects: Suspects, peers: Peers, *, name: str) -> None:
        self._suspects = suspects
        self._peers = peers
        self._name = name
        self._found = 0  # the number of the latest finding
        self._convicted: dict[str, int] = {}  # row -> its finding
        self._struck: dict[str, int] = {}
        self._cleared: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._convicted or self._struck or self._cleared)

    @property
    def convicted(self) -> AbstractSet[str]:
        """The convicted rows that the others have not heard of: as long as they have not, no client is to hear of it."""
        return self._convicted.keys()

    def convict(self, prints: Iterable[str]) -> None:
        """Note rows that are convicted."""
        for print_ in prints:
            self._note(self._convicted, print_)

    def strike(self, print_: str) -> None:
        """Note a row that is suspected, of more than before."""
        self._note(self._struck, print_)

    def clear(self, print_: str) -> None:
        """Note a suspect that was answered."""
        self._note(self._cleared, print_)

    async def tell(self, again: AbstractSet[str] = frozenset()) -> None:
        """Tell all gateways what there is to tell, and of these rows once more."""
        convicted, struck, cleared = dict(self._convicted), dict(self._struck), dict(self._cleared)
        guilty = self._suspects.convictions(convicted.keys() | again)
        suspected = self._suspects.strikes(struck.keys() | again)
        if guilty or suspected or cleared:
            await self._peers.tell(News(self._name, frozenset(cleared), guilty, suspected))
        for findings, told in ((self._convicted, convicted), (self._struck, struck), (self._cleared, cleared)):
            for print_, number in told.items():
                if findings.get(print_) == number:  # else it was found anew meanwhile
                    del findings[print_]

    def _note(self, findings: dict[str, int], print_: str) -> None:
        self._found += 1
        findings[print_] = self._found
