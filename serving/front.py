"""The HTTP port itself: Ray's HAProxy with its configuration put right just before each start.

Ray writes HAProxy's configuration anew whenever the gateways change, and has no settings for what matters here: metrics
and statistics listen on every interface, errors are text, `/-/routes` is open to all. So Ray is given a wrapper as the
binary, which edits the file and then becomes HAProxy. Afterwards

- only the front is on the host that was asked for, all else on loopback, and the admin socket is ours alone;
- whatever HAProxy answers itself, and whatever a replica's shell answers in plain text, is a problem in JSON with an id.
  Bytes that are no HTTP at all are refused before any rule runs: with HAProxy's own 400, and the connection closed;
- a request whose gateway died before it answered goes to another gateway, if doing it twice does no harm.
"""

import json
from http import HTTPStatus
from pathlib import Path

MARK = "# put right"
HEADER_BYTES = 32 << 10  # of a request; more is a 431, as long as it fits in a buffer
BUFFER_BYTES = 64 << 10
REQUEST_S = 30  # a client may take so long to send its headers and what of the body a buffer holds

_PROBLEM = "application/problem+json"
_WRAPPER = """#!/bin/sh
for file in {run}/h/*/haproxy.cfg; do
    grep -q '^{mark}$' "$file" || sed -i -f {run}/front.sed "$file"
done
exec {binary} "$@"
"""
_EDITS = """\
1i {mark}
s|^\\( *bind \\):{metrics}$|\\1127.0.0.1:{metrics}|
s|^\\( *bind \\)[*]:{stats}$|\\1127.0.0.1:{stats}|
s|^\\( *bind \\)127.0.0.1:{port}$|\\1{host}:{port}|
s|mode 666 level admin|mode 600 level admin|
/^ *errorfile /d
s|^\\( *http-request return status 404\\) content-type text/plain .*|\\1 {not_found}|
"""
# Ray adds the request's own x-request-id to an answer that has one: the first, which is ours, is kept.
_FRONT = (
    "unique-id-format req_%[uuid]",
    "http-request return status 404 {not_found} if {{ path_beg -i /-/ }}",
    "http-request return status 431 {large} if {{ req.hdrs,length gt {header_bytes} }}",
    "http-request disable-l7-retry unless METH_GET || METH_HEAD || {{ path /v1/predict }}",
    "http-response set-header x-request-id %[res.fhdr(x-request-id,1)] if {{ res.fhdr_cnt(x-request-id) gt 1 }}",
    "http-after-response set-header x-request-id %[unique-id] unless {{ res.hdr(x-request-id) -m found }}",
)
_FAULTS = {  # status -> code, what happened
    400: ("malformed_request", "the request is no valid HTTP, or its headers are too large"),
    403: ("not_allowed", "the request is not allowed"),
    404: ("not_found", "there is nothing at this path"),
    405: ("method_not_allowed", "the method is not allowed here"),
    408: ("request_timeout", "the request did not arrive in time"),
    413: ("too_large", "the body is too large; GET /v1/limits tells the limits"),
    429: ("overloaded", "too many requests; try again"),
    431: ("too_large", f"the headers have more than {HEADER_BYTES} bytes"),
    500: ("internal_error", "the service failed on this request; its log says why"),
    501: ("not_implemented", "the method is not known"),
    502: ("gateway_lost", "the gateway died with this request on board; it may be sent again"),
    503: ("not_ready", "no gateway answers; try again"),
    504: ("deadline_exceeded", "the gateway did not answer in time"),
}
_OWN = (400, 403, 405, 408, 413, 429, 500, 501, 502, 503, 504)  # HAProxy makes these itself
_AGAIN = frozenset({429, 502, 503})


def write(run: Path, *, host: str, port: int, metrics: int, stats: int, binary: Path) -> Path:
    """Write the wrapper, its edits and the problems into the run folder; returns the wrapper."""
    folder = run / "problems"
    folder.mkdir(exist_ok=True)
    for status in _FAULTS:
        (folder / f"{status}.json").write_text(_problem(status))
    words = {"metrics": metrics, "stats": stats, "port": port, "host": host, "mark": MARK}
    edits = _EDITS.format(**words, not_found=_said(run, 404))
    edits += _after("/^defaults$/", [f"timeout http-request {REQUEST_S}s", "option http-buffer-request", *_errors(run)])
    edits += _after(f"/^ *bind {host}:{port}$/", _rules(run))
    (run / "front.sed").write_text(edits)
    wrapper = run / "haproxy"
    wrapper.write_text(_WRAPPER.format(run=run, mark=MARK, binary=binary))
    wrapper.chmod(0o700)
    return wrapper


def _problem(status: int) -> str:
    """The body, in the shape of `serving.api.problems`; HAProxy puts the request's id in."""
    code, detail = _FAULTS[status]
    kind = "rate_limit_error" if status == HTTPStatus.TOO_MANY_REQUESTS else "invalid_request_error"
    body = {
        "type": f"urn:chorus:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": "#%[unique-id]",
        "code": code,
        "request_id": "%[unique-id]",
        "errors": [],
        "error": {
            "message": detail,
            "type": kind if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error",
            "param": None,
            "code": code,
        },
    }
    return json.dumps(body)


def _said(run: Path, status: int) -> str:
    """The rest of a rule that answers with the problem of a status."""
    again = " hdr retry-after 1" if status in _AGAIN else ""
    return f"content-type {_PROBLEM} lf-file {run}/problems/{status}.json{again}"


def _errors(run: Path) -> list[str]:
    return [f"http-error status {status} {_said(run, status)}" for status in _OWN]


def _rules(run: Path) -> list[str]:
    words = {"not_found": _said(run, 404), "large": _said(run, 431), "header_bytes": HEADER_BYTES}
    plain = "!{ res.hdr(content-type) -m sub json }"
    replaced = [
        f"http-response return status {status} {_said(run, status)} if {{ status {status} }} {plain}"
        for status in _FAULTS
    ]
    return [*(rule.format(**words) for rule in _FRONT), *replaced]


def _after(place: str, lines: list[str]) -> str:
    """A command of sed that puts lines after the one that it finds."""
    return f"{place}a\\\n" + "\\\n".join(f"\\    {line}" for line in lines) + "\n"
