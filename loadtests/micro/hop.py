"""Chorus over plain calls of Ray Serve: `python -m loadtests.micro.hop serve ...`, with the options of `chorus serve`.

Between gateway and engine every row is a call of a deployment's handle, at once and alone, as a service of two
deployments has it where nobody gathers. Everything else is the same service, engine included.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from adapters.architectures.profile import BackboneProfile
from serving import cli, deployment
from serving.config import ServiceSettings
from serving.request import Holding, Reply, Ticket

ENDLESS = 1 << 30


class Calls:
    """Implements `serving.dispatch.ports.EnginePort` for calls of one ticket each; a cancel is not passed on."""

    def __init__(self, engines: Any) -> None:
        plain = {"request_serialization": "pickle", "response_serialization": "pickle"}
        self._predict = engines.options(method_name="predict", **plain)

    def observe(self, holdings: Mapping[str, Holding]) -> None:
        """Ray knows where they are."""

    async def call(self, replica: str, tickets: Sequence[Ticket]) -> AsyncIterator[tuple[Reply, ...]]:
        """One reply to one ticket."""
        (ticket,) = tickets
        yield (await self._predict.remote(ticket, replica=replica),)

    async def cancel(self, replica: str, ids: Sequence[str]) -> None:
        """They are answered all the same."""

    async def close(self) -> None:
        """Nothing is open."""


def scattering(gateway: type[Any]) -> type[Any]:
    """A gateway like this one whose rows travel alone."""

    class Scattering(gateway):  # type: ignore[misc]  # a class made of a value
        def __init__(self, *given: Any) -> None:
            from serving.dispatch import lanes  # noqa: PLC0415 - those of the replica's own process

            lanes.OPEN_CALLS, lanes.TICKETS_PER_CALL = ENDLESS, 1
            super().__init__(*given)
            self._wires = Calls(self._engines)

    return Scattering


def called(engine: type[Any]) -> type[Any]:
    """An engine like this one that answers calls."""

    class Called(engine):  # type: ignore[misc]  # a class made of a value
        async def predict(self, ticket: Ticket, *, replica: str) -> Reply:
            """The reply; `replica` is the router's hint."""
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Reply] = loop.create_future()
            self._engine.submit((ticket,), lambda group: loop.call_soon_threadsafe(answer.set_result, group[0]))
            return await answer

    return Called


def main() -> None:
    """The command line of `chorus`, with these gateways and engines."""
    whole = deployment.application

    def application(settings: ServiceSettings, profile: BackboneProfile) -> Any:
        from serving.replicas import engine, gateway  # noqa: PLC0415 - they import Ray, which reads its environment then

        gateway.Gateway = scattering(gateway.Gateway)  # type: ignore[misc]  # which `whole` deploys
        engine.EngineReplica = called(engine.EngineReplica)  # type: ignore[misc]
        return whole(settings, profile)

    deployment.application = application
    cli.main()


if __name__ == "__main__":
    main()
