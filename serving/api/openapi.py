"""The description of the HTTP surface: OpenAPI as the service really answers, and a page of it that needs no network."""

from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

from serving.api.auth import OPEN_PATHS
from serving.api.problems import MEDIA_TYPE
from serving.api.schemas import ProblemAnswer

_REF = "#/components/schemas/{model}"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font-family:ui-monospace,monospace}td{padding:.3rem .8rem .3rem 0;vertical-align:top}"
    "td:first-child{font-weight:600}"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1><p>{description}</p>
<p>The whole description, with every schema: <a href="/openapi.json">/openapi.json</a></p>
<table>{rows}</table></body></html>
"""


class Application(FastAPI):
    """FastAPI whose description tells of problems and keys, which FastAPI does not know."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _truthful(super().openapi())
        return self.openapi_schema


def routes() -> APIRouter:
    """`/docs`: every operation on one page, made from the document itself; nothing is loaded from elsewhere."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs(request: Request) -> HTMLResponse:
        page = _page(request.app.openapi())
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    return router


def _truthful(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {})
    models = components.setdefault("schemas", {})
    problem = ProblemAnswer.model_json_schema(ref_template=_REF)
    models |= problem.pop("$defs")
    models[ProblemAnswer.__name__] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        models.pop(unused, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    refusal = {
        "description": "A refusal; `code` is stable and `errors` point into the body",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model=ProblemAnswer.__name__)}}},
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = refusal
            operation["security"] = [] if path in OPEN_PATHS else [{"key": []}]
    return schema


def _page(schema: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation.get('summary', ''))}</td></tr>"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    info = schema["info"]
    return _PAGE.format(
        title=escape(info["title"]), description=escape(info["description"]), style=_STYLE, rows="".join(rows)
    )
