"""Ray Serve behind plain protocols: calls to one given replica, broadcasts to all, and what the fleet says of itself.

Ray chooses replicas by load alone; `HintedRouter` lets the caller name one. Who is alive, where it listens for tickets
(which travel by `serving.dispatch.wires`) and what it holds is asked once a second by broadcast.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.request_router import RequestRouter

from adapters.refs import AdapterRef
from serving.asking import ANSWER_S, LOST, NoAnswer, ask, broadcast, each
from serving.config import HUNG_S, REPLACED_S
from serving.dispatch.ports import Claim, News, ReplicaLeft
from serving.errors import NotReady
from serving.logs import log
from serving.registry.records import Resolved
from serving.request import Desired, Holding, ReplicaReport

WATCH_S = 1.0  # how often the engines are asked what they hold
FIRST_WATCH_S = 0.1  # and how often until the first has answered
LOAD_S = 35.0  # how long a question waits for engines that may have to load: they give up before, and say why
GLANCE_S = 2.0  # how long a question waits that a process answers at once, or hangs
NUDGE_S = 1.5  # how long a write waits for the gateways
CONSENT_S = 15.0  # how long a claim waits for a gateway that neither consents nor fails


class HintedRouter(RequestRouter):  # type: ignore[misc]  # Ray's classes are untyped here
    """Sends a call to the replica that its keyword `replica` names, and to no other."""

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        """The named replica alone; a call to one that is gone ends."""
        hint = pending_request.kwargs.get("replica") if pending_request is not None else None
        if hint is None:
            return [candidate_replicas]
        # Without the backoff a full replica would be asked in a tight loop.
        pending_request.routing_context.should_backoff = True
        named = [replica for replica in candidate_replicas if replica.replica_id.unique_id == hint]
        if not named and not pending_request.future.done():
            # Ray waits for a replica as long as there is no choice, and has no way to give up but the call's own future.
            pending_request.future.set_exception(ReplicaLeft(hint))
        return [named or candidate_replicas]


class GatewayCalls:
    """Implements `serving.dispatch.ports.Peers` over the handle of the `Gateway` deployment, whose one this is."""

    def __init__(self, gateways: Any) -> None:
        self._gateways = gateways

    async def claim(self, claim: Claim) -> frozenset[str]:
        """Ask all gateways for the turn; which suspects any of them has on board.

        Raises `TimeoutError` where one neither answers nor is gone, and `RuntimeError` where one fails: what it has on
        board, nobody knows.
        """
        try:
            asked = self._gateways.broadcast("consent", claim)
            answers = await asked.results_async(timeout_s=CONSENT_S, return_exceptions=True)
        except LOST:  # nobody is there
            return frozenset()
        told = [answer for answer in answers if not isinstance(answer, LOST)]
        unknown = [answer for answer in told if isinstance(answer, BaseException)]
        if unknown:
            raise RuntimeError(f"gateways could not say which suspects they have on board: {unknown}") from unknown[0]
        return frozenset().union(*told)

    async def tell(self, news: News) -> Sequence[News]:
        """Tell all gateways; returns when they have heard, or after 1.5 s: what each answered."""
        return await broadcast(self._gateways, "hear", news, timeout_s=NUDGE_S)


class Fleet:
    """Implements `serving.api.services.Fleet`; keeps `observe` told of who is alive and what each replica holds.

    Every question tells the engines what has to be brought about, so that a replaced engine is made warm, too.
    """

    def __init__(
        self,
        engines: Any,
        gateways: Any,
        *,
        own: str,
        observe: Callable[[Mapping[str, Holding]], None],
        desired: Callable[[], Desired],
        gone: Callable[[int], object] = lambda _: None,
        silent: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._engines = engines
        self._gateways = gateways
        self._own = own  # the gateway that this fleet belongs to
        self._observe = observe
        self._desired = desired
        self._gone = gone  # told how many engines are not there any more
        self._silent = silent  # told how many replicas gave `metrics` no text in time
        self._holdings: Mapping[str, Holding] = {}
        self._living = 1
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch the engines; returns when the first has answered."""
        first = asyncio.Event()
        self._task = asyncio.create_task(self._watch(first))
        await first.wait()

    async def stop(self) -> None:
        """End the watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def holdings(self) -> Mapping[str, Holding]:
        """What every live engine said last, by replica; at most some seconds old."""
        return self._holdings

    def gateways(self) -> int:
        """How many gateways share the work, this one included."""
        return self._living

    async def room(self, refs: Sequence[AdapterRef]) -> Sequence[tuple[str, int, int]]:
        """Per engine: its id, the device bytes that these packages need when pinned, and those that are free for pins.

        Raises `NotReady` where an engine says nothing, for then nobody knows.
        """
        told = await self._each("room", tuple(refs), timeout_s=LOAD_S)
        silent = [f"{name} gave {a.why}" for name, a in told.items() if isinstance(a, NoAnswer) and a.silent]
        if silent or not told:
            why, later = ("; ".join(silent), HUNG_S) if silent else ("no engine is there", REPLACED_S)
            raise NotReady(f"whether there is room for it is not known: {why}", retry_after=later)
        return [answer for answer in told.values() if not isinstance(answer, NoAnswer)]

    async def reports(self) -> Sequence[ReplicaReport]:
        """One report per live engine replica, sorted by its id; one that gives none is told as not ready."""
        told = await self._each("report", timeout_s=ANSWER_S)
        return [_silent(name, answer) if isinstance(answer, NoAnswer) else answer for name, answer in told.items()]

    async def preload(self, resolved: Resolved, *, pinned: bool) -> dict[str, str]:
        """Load a version on every replica (and pin it); replica -> tier, or the error."""
        return _outcomes(await self._each("preload", resolved.version.ref, pinned, timeout_s=LOAD_S))

    async def unload(self, resolved: Resolved) -> dict[str, str]:
        """Evict and unpin a version everywhere it is not leased; replica -> outcome, or the error."""
        return _outcomes(await self._each("unload", resolved.version.ref, timeout_s=ANSWER_S))

    async def retire(self, refs: Sequence[AdapterRef]) -> None:
        """Have packages leave every engine, one that came up just now included, each once its last lease ends."""
        if refs:
            await broadcast(self._engines, "retire", tuple(refs), timeout_s=GLANCE_S)

    async def metrics(self) -> dict[str, str]:
        """Prometheus text of every engine replica and every other gateway, by replica id; `silent` counts who hangs.

        Gateways are asked in one call, as Ray lets no ingress have a router of its own: one that hangs hides the others.
        """
        told, gateways = await asyncio.gather(
            self._each("metrics", timeout_s=GLANCE_S), broadcast(self._gateways, "metrics", timeout_s=GLANCE_S)
        )
        engines = [answer for answer in told.values() if not isinstance(answer, NoAnswer)]
        texts = {replica: text for replica, text in (*engines, *gateways) if replica != self._own}
        hanging = sum(isinstance(answer, NoAnswer) and answer.silent for answer in told.values())
        others = sum(replica != self._own for replica, _ in gateways)
        self._silent(hanging + max(0, self._living - 1 - others))
        return texts

    async def ready(self) -> bool:
        """Whether at least one engine answered when it was last asked."""
        return bool(self._holdings)

    async def nudge(self, revision: int) -> None:
        """Tell every gateway that the registry is at `revision`; returns when all have read it, or after 1.5 s."""
        await broadcast(self._gateways, "refresh", revision, timeout_s=NUDGE_S)

    async def _each(self, method: str, *args: object, timeout_s: float) -> dict[str, Any]:
        return await each(self._engines, method, *args, replicas=self._holdings, timeout_s=timeout_s)

    async def _watch(self, first: asyncio.Event) -> None:
        while self._task is not None:
            pause = WATCH_S
            try:
                if await self._look():
                    first.set()
                    await self._count()
                else:
                    pause = FIRST_WATCH_S
            except Exception:  # a bug: a gateway that watched no more would see no engine that comes, or goes
                log("fleet", "the engines could not be looked at", level=logging.ERROR, error=True)
            await asyncio.sleep(pause)

    async def _look(self) -> bool:
        """Ask all engines what they hold and tell of it; whether any is known."""
        try:
            answers: list[Holding] = await ask(self._engines, "holdings", self._desired(), timeout_s=ANSWER_S)
        except (
            TimeoutError
        ):  # one hangs; Ray's health check will end it, and until then all are taken to be as they were
            log("fleet", "a replica does not answer", level=logging.WARNING)
            self._observe(self._holdings)
            return bool(self._holdings)
        before, self._holdings = self._holdings, {holding.replica: holding for holding in answers}
        if before.keys() != self._holdings.keys():
            gone = sorted(before.keys() - self._holdings.keys())
            log("fleet", "the engines changed", alive=sorted(self._holdings), gone=gone)
            self._gone(len(gone))
        self._observe(self._holdings)
        return bool(answers)

    async def _count(self) -> None:
        try:
            self._living = max(1, len(await ask(self._gateways, "present", timeout_s=NUDGE_S)))
        except TimeoutError:  # one hangs: until it is ended it has its share
            log("fleet", "a gateway does not answer", level=logging.WARNING)


def _outcomes(told: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"error: {a.why}" if isinstance(a, NoAnswer) else str(a[1]) for name, a in told.items()}


def _silent(replica: str, answer: NoAnswer) -> ReplicaReport:
    return ReplicaReport(replica, False, {}, {}, {}, (), queued=0, running=0, faults=(answer.why,))


def gateway_handle(deployment: str, application: str) -> Any:
    """The handle of a deployment by name: how a gateway reaches all gateways, itself included."""
    return serve.get_deployment_handle(deployment, application)


def replica_id() -> str:
    """The id of the replica that this process is."""
    return str(serve.get_replica_context().replica_id.unique_id)
