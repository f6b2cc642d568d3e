"""An image as the whole body of a prediction, as the Hugging Face Inference API takes it; the query says the rest.

    curl --data-binary @cat.jpg -H 'content-type: image/jpeg' 'localhost:8000/v1/predict?adapters=pets&top_k=1'

Several images in one request are JSON: a form of several files would be one more parser of hostile bytes.
"""

from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from serving.api.body import StrictRequest, StrictRoute, media_type
from serving.api.strict import Strict
from serving.errors import Fault, Unprocessable

_PARAMETERS = ("top_k", "function_to_apply")


class UploadQuery(Strict):
    """What the body says where it is JSON."""

    model_config = ConfigDict(extra="forbid")

    adapters: str | None = Field(default=None, description="A reference, a target, or a short form `a+b`.")
    head: str | None = Field(default=None, description="A package with a head; without it the last adapter's own.")
    task: str | None = Field(default=None, description="What is expected; without it the head decides.")
    top_k: int | None = Field(default=None, ge=1, description="The best k labels.")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(default=None)
    timeout_ms: int | None = Field(default=None, ge=1, description="Time for the whole request.")

    def body(self, image: bytes) -> dict[str, Any]:
        """The JSON that asks for the same, with bytes for base64."""
        given = self.model_dump(exclude_none=True)
        if self.adapters is not None:
            given["adapters"] = self.adapters.replace(" ", "+")  # what a plus in a query means; no name holds a space
        parameters = {name: given.pop(name) for name in _PARAMETERS if name in given}
        return {"inputs": {"image": image}, **given, **({"parameters": parameters} if parameters else {})}


class UploadRoute(StrictRoute):
    """A route that takes an image instead of its JSON body; the image's own bytes tell what it is, not its media type."""

    async def read(self, request: Request) -> StrictRequest:
        """The request as if it had come in JSON; raises `Unprocessable` for query fields that mean nothing."""
        media = media_type(request.headers.get("content-type", ""))
        if not (media.startswith("image/") or media == "application/octet-stream"):
            return await super().read(request)
        query = _query(request)
        scope = {**request.scope, "query_string": b"", "headers": list(request.scope["headers"])}
        MutableHeaders(scope=scope)["content-type"] = "application/json"  # which FastAPI looks at
        strict = StrictRequest(scope, request.receive)
        strict.raw = await request.body()
        strict.value = query.body(strict.raw)
        return strict


def described() -> dict[str, Any]:
    """For OpenAPI: the other kind of body, and its query."""
    schema = UploadQuery.model_json_schema()["properties"]
    note = "Beside an image as the body only."
    fields = [
        {"name": name, "in": "query", "required": False, "description": f"{told.pop('description', '')} {note}".strip()}
        | {"schema": told}
        for name, told in schema.items()
    ]
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "requestBody": {"content": {"image/*": binary, "application/octet-stream": binary}},
        "parameters": fields,
    }


def _query(request: Request) -> UploadQuery:
    given = request.query_params.multi_items()
    names = [name for name, _ in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    told = [f"query parameter {name}: it is given twice" for name in twice]
    if not told:
        try:
            return UploadQuery.model_validate(dict(given))
        except ValidationError as error:
            told = [f"query parameter {item['loc'][0]}: {item['msg']}" for item in error.errors()]
    raise Unprocessable("; ".join(told[:5]), code="invalid_value", faults=tuple(Fault("", one) for one in told))
