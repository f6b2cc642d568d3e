"""What engines do with a version when an operator asks: preload, unload, pin, unpin; each replica says what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from serving.api.packages import Operator, Surface
from serving.api.residency_answers import ReplicasAnswer
from serving.api.residents import joined, loaded, pinned_as, residents
from serving.config import REPLACED_S
from serving.errors import Conflict, Fault, NotReady
from serving.registry.records import Resolved
from serving.tenancy.keys import Caller


@dataclass(frozen=True)
class Acting:
    """The calls of one namespace that reach every engine; of a target, they are about all that it is made of."""

    surface: Surface

    async def preload(self, name: str, caller: Operator) -> ReplicasAnswer:
        """Load a version on every replica, and all that it is made of."""
        _, resolved = await self.surface.find(caller, name)
        return _report("preload", resolved, await self._load(await self._residents(caller, resolved), pinned=False))

    async def unload(self, name: str, caller: Operator) -> ReplicasAnswer:
        """Evict a version wherever no row uses it; 409 where a pin keeps it. What is public stays for the others."""
        _, resolved = await self.surface.find(caller, name)
        if resolved.version.ref.tenant != caller.tenant:
            raise Conflict(f"{name!r} is public: only a key of its tenant unloads it", code="public_name")
        found = await self._own(caller, resolved)
        pins = dict.fromkeys(pin for item in found for pin in self._pinned_as(caller, item))
        if pins:
            raise Conflict(f"{' and '.join(pins)} is pinned: unpin it first", code="held")
        fleet = self.surface.services.fleet
        return _report("unload", resolved, _somewhere(joined([await fleet.unload(item) for item in found])))

    async def pin(self, name: str, caller: Operator) -> ReplicasAnswer:
        """Keep a version resident on every replica; 409 with numbers where one has no room for it beside its pins."""
        _, resolved = await self.surface.find(caller, name)
        found = await self._residents(caller, resolved)
        new = [item for item in found if not self._pinned_as(caller, item)]
        await self._refuse_without_room(new)
        await self._set_pin(resolved, caller, pinned=True)
        outcomes = await self._load(found, pinned=True)
        if any(told.startswith("error") for told in outcomes.values()):
            await self._refuse_beside_others(caller, resolved, new)
        return _report("pin", resolved, outcomes)

    async def unpin(self, name: str, caller: Operator) -> ReplicasAnswer:
        """Let a version be retired again; every replica lets go of it now, or as soon as no row uses it."""
        _, resolved = await self.surface.find(caller, name)
        return _report("unpin", resolved, await self._let_go(caller, resolved))

    async def _residents(self, caller: Caller, resolved: Resolved) -> list[Resolved]:
        return await residents(self.surface.services.directory, caller.tenant, resolved)

    async def _own(self, caller: Caller, resolved: Resolved) -> list[Resolved]:
        """The same without what others may stand on."""
        return [item for item in await self._residents(caller, resolved) if item.version.ref.tenant == caller.tenant]

    async def _load(self, found: Sequence[Resolved], *, pinned: bool) -> dict[str, str]:
        return _somewhere(await loaded(self.surface.services.fleet, found, pinned=pinned))

    async def _refuse_without_room(self, new: Sequence[Resolved]) -> None:
        """Raise `Conflict` with every replica's numbers where a pin could not be kept; nothing is stored then."""
        if not new:
            return
        told = await self.surface.services.fleet.room([item.version.ref for item in new])
        short = [(replica, needed, free) for replica, needed, free in sorted(told) if needed > free]
        if short:
            faults = tuple(
                Fault("", f"{replica}: {needed} bytes are needed, {free} are free for pins")
                for replica, needed, free in short
            )
            detail = "; ".join(fault.detail for fault in faults)
            remedy = "unpin something, or give the engines a larger device cache"
            raise Conflict(f"{detail}: {remedy}", code="would_exceed_device", faults=faults)

    async def _refuse_beside_others(self, caller: Caller, resolved: Resolved, new: Sequence[Resolved]) -> None:
        """Take a pin back, and raise `Conflict`, where one that was set at the same time has taken its room."""
        try:
            await self._refuse_without_room(new)
        except Conflict:
            await self._let_go(caller, resolved)
            raise
        except NotReady:  # one of them still gives no answer: the pin stays, and the report says so
            return

    async def _let_go(self, caller: Caller, resolved: Resolved) -> dict[str, str]:
        await self._set_pin(resolved, caller, pinned=False)
        fleet, outcomes = self.surface.services.fleet, []
        for item in await self._own(caller, resolved):
            if self._pinned_as(caller, item):  # the same bytes under another name: they stay
                outcomes.append(await fleet.preload(item, pinned=True))
            else:
                outcomes.append(await fleet.unload(item))
        return joined(outcomes)

    async def _set_pin(self, resolved: Resolved, caller: Caller, *, pinned: bool) -> None:
        ref, surface = resolved.version.ref, self.surface
        await surface.services.control.set_pin(caller, surface.space, ref.name, ref.version, pinned=pinned)

    def _pinned_as(self, caller: Caller, resolved: Resolved) -> list[str]:
        return pinned_as(self.surface.services.directory, caller.tenant, resolved.version.ref.digest)


def _somewhere(outcomes: dict[str, str]) -> dict[str, str]:
    """The outcomes, if there are any; raises `NotReady`: what no engine did was not done."""
    if not outcomes:
        raise NotReady("no engine is there that could do it", retry_after=REPLACED_S)
    return outcomes


def _report(action: str, resolved: Resolved, outcomes: dict[str, str]) -> ReplicasAnswer:
    ref = resolved.version.ref
    return {
        "name": ref.name,
        "version": ref.version,
        "digest": ref.digest,
        "action": action,
        "replicas": dict(sorted(outcomes.items())),
    }
