"""The gate of a promote: every engine loads the version, then it answers a reference input; else the alias stays.

The reference input takes the way of every request, with the version pinned by its digest. An alias that moves after it
leads to weights that are resident everywhere; the version that it leaves is not held by it any more, and is evicted when
room is needed.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from serving.api.answers import GateAnswer
from serving.api.predict import Predictor
from serving.api.problems import pointer_of
from serving.api.residents import loaded, residents
from serving.api.schemas import PredictRequest
from serving.api.services import Services
from serving.errors import DependencyFailed, Fault, ServiceError, Unprocessable
from serving.images.reference import DRAWN, drawn, png
from serving.logs import request_id
from serving.registry.inspection import SAMPLE
from serving.registry.records import Resolved, Space
from serving.registry.targets import pinned
from serving.registry.versions import nameable
from serving.tenancy.keys import Caller


@dataclass(frozen=True)
class GateWish:
    """The reference input, as `POST /v1/predict` takes it, and its parameters."""

    input: Any
    parameters: Mapping[str, Any] | None


class Gate:
    """Opens for a version that every engine holds and that answers."""

    def __init__(self, services: Services, make: Callable[[Services], Predictor] = Predictor) -> None:
        self._services = services
        self._make = make

    @cached_property
    def _predictor(self) -> Predictor:
        return self._make(self._services)  # it holds tokenizers: only where somebody gates

    async def open(self, caller: Caller, space: Space, resolved: Resolved, wish: GateWish) -> GateAnswer:
        """What was loaded and answered; raises `DependencyFailed` (`gate_failed`), which the audit tells as well.

        Raises `Unprocessable` for a public name of somebody else, whose alias the caller could not move anyway.
        """
        if resolved.version.ref.tenant != caller.tenant:
            nameable(caller.tenant, space, resolved.version.ref.name)  # before any engine works for it
        reference = self._reference if wish.input == SAMPLE else None
        request = _request(space, resolved, wish if reference is None else GateWish(reference, wish.parameters))
        try:
            replicas = await self._loaded(caller, resolved)
            outputs = await self._answered(caller, request)
        except ServiceError as error:
            ref = resolved.version.ref
            reason = f"{ref.name}@{ref.version} did not pass the gate: {error.detail}"
            self._services.metrics.gates.labels("failed").inc()
            await self._services.control.gate_failed(caller, space, ref.name, ref.version, error.detail)
            raise DependencyFailed(reason, code="gate_failed", faults=error.faults) from error
        self._services.metrics.gates.labels("passed").inc()
        return {"input": wish.input if reference is None else DRAWN, "outputs": outputs, "replicas": replicas}

    @cached_property
    def _reference(self) -> dict[str, str] | None:
        """What stands for a text where the backbone reads images."""
        image = self._services.profile.geometry.image
        return None if image is None else {"image": b64encode(png(drawn(*image[1:]))).decode()}

    async def _loaded(self, caller: Caller, resolved: Resolved) -> dict[str, str]:
        fleet = self._services.fleet
        found = await residents(self._services.directory, caller.tenant, resolved)
        replicas = await loaded(fleet, found, pinned=False)
        failed = [f"{replica}: {told}" for replica, told in replicas.items() if told.startswith("error")]
        if failed or not replicas:
            raise DependencyFailed("; ".join(failed) or "no engine answers")
        return replicas

    async def _answered(self, caller: Caller, request: PredictRequest) -> list[Any]:
        answered = await self._predictor.predict(request, caller.tenant, f"gate_{request_id()}")
        outputs: list[Any] = json.loads(answered.content)["outputs"]
        return outputs


def _request(space: Space, resolved: Resolved, wish: GateWish) -> PredictRequest:
    """The request that shows whether a version answers; raises `Unprocessable` for one that can not run by itself."""
    manifest, reference = resolved.version.manifest, pinned(resolved)
    if manifest.kind == "fusion":
        detail = f"{resolved.version.ref.name} is a fusion, which runs with what it fuses: gate a target over it"
        raise Unprocessable(detail, code="gate_unsupported", pointer="/gate")
    features = {"task": "feature-extraction"}
    asked: dict[str, Any] = {"inputs": [wish.input], "parameters": wish.parameters}
    if space == "embedding":
        asked |= {"adapters": [], "embedding": reference, **features}
    elif manifest.kind == "head":
        asked |= {"adapters": [], "head": reference}
    else:
        alone = manifest.kind == "adapter" and manifest.head is None
        asked |= {"adapters": reference, **(features if alone else {})}
    try:
        return PredictRequest.model_validate({name: value for name, value in asked.items() if value is not None})
    except ValidationError as error:
        faults = tuple(Fault(f"/gate{pointer_of(item['loc'], asked)}", item["msg"]) for item in error.errors())
        raise Unprocessable(
            "; ".join(fault.detail for fault in faults[:5]), code="invalid_value", faults=faults
        ) from error
