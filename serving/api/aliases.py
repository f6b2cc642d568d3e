"""Aliases over HTTP: promote and roll back by compare-and-set, if asked for only through a gate."""

from dataclasses import dataclass
from typing import Any

from pydantic import Field, StrictInt
from starlette.responses import Response

from adapters.refs import parse_alias, parse_name
from serving.api import answers
from serving.api.gate import Gate, GateWish
from serving.api.packages import IfMatch, PublisherKey, Surface, revision
from serving.api.strict import Strict
from serving.errors import NotFound
from serving.registry.inspection import SAMPLE
from serving.tenancy.keys import Caller


class GateBody(Strict):
    """What has to be answered before the alias moves."""

    input: Any = Field(default=SAMPLE, description="an input as `POST /v1/predict` takes it", examples=["I love it"])
    parameters: dict[str, Any] | None = Field(default=None, description="as `POST /v1/predict` takes them")


class AliasBody(Strict):
    """Where an alias shall point, and what it has to pass first."""

    version: StrictInt = Field(ge=1, examples=[4])
    gate: GateBody | bool = Field(
        default=False,
        description="load the version on every engine and have it answer a reference input, and only then move the "
        "alias; `true` takes an English sentence",
    )

    @property
    def wish(self) -> GateWish | None:
        """The gate, if there is one."""
        if isinstance(self.gate, bool):
            return GateWish(SAMPLE, None) if self.gate else None
        return GateWish(self.gate.input, self.gate.parameters)


@dataclass(frozen=True)
class Aliases:
    """The aliases of one namespace."""

    surface: Surface
    gate: Gate

    async def set_alias(
        self,
        response: Response,
        name: str,
        alias: str,
        *,
        body: AliasBody,
        caller: PublisherKey,
        if_match: IfMatch = None,
    ) -> answers.MovedAnswer:
        """Point an alias at a version: promote, roll back. Later requests on every gateway follow it."""
        services, space = self.surface.services, self.surface.space
        asked, wanted = revision(if_match), body.wish
        parse_name(name)
        parse_alias(alias)
        gate = None
        if wanted is not None:
            before, resolved = await self.surface.find(caller, f"{name}@{body.version}")
            asked = before.revision if asked is None else asked  # what changes while the gate is open is not overrun
            gate = await self.gate.open(caller, space, resolved, wanted)
        try:
            moved = await services.control.set_alias(caller, space, name, alias, body.version, if_match=asked)
        except NotFound as error:
            at = "/version" if self._holds(caller, name) else None  # the name is in the path
            raise NotFound(error.detail, code=error.code, pointer=at) from error
        response.headers["etag"] = f'"{moved.record.revision}"'
        return {**answers.name_answer(moved.record), "alias": alias, "was": moved.was, "gate": gate}

    async def delete_alias(
        self, response: Response, name: str, alias: str, caller: PublisherKey, if_match: IfMatch = None
    ) -> answers.NameAnswer:
        """Remove an alias."""
        record = await self.surface.services.control.delete_alias(
            caller, self.surface.space, parse_name(name), parse_alias(alias), if_match=revision(if_match)
        )
        response.headers["etag"] = f'"{record.revision}"'
        return answers.name_answer(record)

    def _holds(self, caller: Caller, name: str) -> bool:
        """Whether the name is one of the caller's, by the directory."""
        names = self.surface.services.directory.names(caller.tenant, self.surface.space)
        return any(record.name == name for record in names)
