"""The HTTP port itself: Ray's HAProxy with its configuration put right just before each start.

Ray writes HAProxy's configuration anew whenever the gateways change, and has no settings for what matters here: metrics
and statistics listen on every interface, errors are text, `/-/routes` is open to all. So Ray is given a wrapper as the
binary, which edits the file and then becomes HAProxy. Afterwards

- only the front is on the host that was asked for, all else on loopback, and the admin socket is ours alone;
- whatever HAProxy answers itself, and whatever Ray answers in plain text, is a problem in JSON with an id. As long as no
  gateway is there, that is a 503 on every path, since what there is only a gateway knows;
- bytes that are no HTTP are refused before any rule runs and any id is made, by pages that are built into HAProxy and that
  no setting reaches: what is started is a copy of it, in which these pages are problems in JSON;
- a request whose gateway died before it answered goes to another gateway, if doing it twice does no harm;
- HAProxy outlives the process that started it, and the one that Ray starts next takes over from it; what a service that
  is killed leaves is ended by `serving.guard`.
"""

import json
import logging
import re
import shlex
import sys
from http import HTTPStatus
from pathlib import Path

from serving.logs import log

MARK = "# put right"
HEADER_BYTES = 32 << 10  # of a request; more is a 431, as long as it fits in a buffer
BUFFER_BYTES = 64 << 10
REQUEST_S = 30  # a client may take so long to send its headers and what of the body a buffer holds

_PROBLEM = "application/problem+json"
_WRAPPER = """#!/bin/sh
for file in {run}/h/*/haproxy.cfg; do
    grep -q '^{mark}$' "$file" || sed -i -f {run}/front.sed "$file"
done
exec {python} -I -S {run}/takeover.py {binary} "$@"
"""
_TAKEOVER = """\
import os, sys

binary, *words = sys.argv[1:]
left = []
if os.getpgrp() != os.getpid():
    os.setsid()  # with a process that dies Ray ends its whole group
for pid in filter(str.isdigit, os.listdir("/proc") if "-sf" not in words else ()):
    try:
        with open(f"/proc/{{pid}}/cmdline", "rb") as file:
            first, *others = os.fsdecode(file.read()).split("\\0")
    except OSError:  # it ended meanwhile
        continue
    if first == binary and any(word.startswith("{run}/h/") for word in others):
        left.append(pid)
os.execv(binary, [binary, *words, *(("-sf", *left) if left else ())])
"""
_EDITS = """\
1i {mark}
s|^\\( *bind \\):{metrics}$|\\1127.0.0.1:{metrics}|
s|^\\( *bind \\)[*]:{stats}$|\\1127.0.0.1:{stats}|
s|^\\( *bind \\)127.0.0.1:{port}$|\\1{host}:{port}|
s|mode 666 level admin|mode 600 level admin|
/^ *errorfile /d
s#^\\( *http-request return status\\) 404 content-type text/plain .*#\\1 503 {not_ready} if {{ path_beg / }}\\n\\1 404 {not_found}#
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
    422: ("unknown_transfer_encoding", "the only transfer encoding is chunked"),
    429: ("overloaded", "too many requests; try again"),
    431: ("too_large", f"the headers have more than {HEADER_BYTES} bytes"),
    500: ("internal_error", "the service failed on this request; its log says why"),
    501: ("not_implemented", "the method is not known"),
    502: ("gateway_lost", "the gateway died with this request on board; it may be sent again"),
    503: ("not_ready", "no gateway answers; try again"),
    504: ("deadline_exceeded", "the gateway did not answer in time"),
}
_OWN = (400, 403, 405, 408, 413, 422, 429, 500, 501, 502, 503, 504)  # HAProxy makes these itself
_BARE = (400, 408, 422, 500, 501)  # and these before there is a request
_AGAIN = frozenset({429, 502, 503})
_PAGE = rb"HTTP/1\.[01] (\d{3}) [^\0]*?\r\n\r\n<html>[^\0]*?</html>\n\0"  # ends where a C string ends


class UnknownPages(ValueError):
    """A binary whose pages can not be told apart from the rest of it, or that have no room for a problem."""


def write(run: Path, *, host: str, port: int, metrics: int, stats: int, binary: Path) -> Path:
    """Write the wrapper, its edits, the problems and the binary into the run folder, which is new; returns the wrapper.

    A binary with other pages than those that are known here is used as it is, and the log says so.
    """
    folder = run / "problems"
    folder.mkdir(exist_ok=True)
    for status in _FAULTS:
        (folder / f"{status}.json").write_text(_problem(status))
    places = {"metrics": metrics, "stats": stats, "port": port, "host": host, "mark": MARK}
    edits = _EDITS.format(**places, not_found=_said(run, 404), not_ready=_said(run, 503))
    edits += _after("/^defaults$/", [f"timeout http-request {REQUEST_S}s", "option http-buffer-request", *_errors(run)])
    edits += _after(f"/^ *bind {host}:{port}$/", _rules(run))
    (run / "front.sed").write_text(edits)
    (run / "takeover.py").write_text(_TAKEOVER.format(run=run))
    wrapper = run / "haproxy"
    words = {"python": shlex.quote(sys.executable), "binary": shlex.quote(str(_prepared(run, binary)))}
    wrapper.write_text(_WRAPPER.format(run=run, mark=MARK, **words))
    wrapper.chmod(0o700)
    return wrapper


def _prepared(run: Path, binary: Path) -> Path:
    """A copy of the binary whose pages are problems; the binary itself where its pages are unknown."""
    try:
        made = with_problems(binary.read_bytes())
    except UnknownPages as error:
        said = f"this HAProxy is not the one that was tested: bytes that are no HTTP get its own pages ({error})"
        log("service", said, level=logging.WARNING, binary=str(binary))
        return binary
    copy = run / "binary" / "haproxy"
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(made)
    copy.chmod(0o700)
    (copy.parent / "lib").symlink_to(binary.parent / "lib")  # it looks for its libraries beside itself
    return copy


def with_problems(binary: bytes) -> bytes:
    """The bytes of HAProxy's binary with a problem in place of each page that it may send before there is a request.

    Such a page is a C string, which may become shorter and never longer: these problems have no id, and few words.
    HAProxy sends them without a look at `errorfile` or `http-error`, so that there is no other place to change them.
    Raises `UnknownPages` for a binary that does not hold each of these pages once.
    """
    found: list[int] = []

    def replaced(page: re.Match[bytes]) -> bytes:
        status = int(page[1])
        if status not in _BARE:
            return page[0]
        found.append(status)
        text = _bare(status)
        if len(text) >= len(page[0]):
            raise UnknownPages(f"page {status} is too short")
        return text.ljust(len(page[0]), b"\0")

    made = re.sub(_PAGE, replaced, binary)
    if sorted(found) != sorted(_BARE):
        raise UnknownPages(f"pages {found}, not {_BARE}")
    return made


def _bare(status: int) -> bytes:
    """A whole answer, in fewer bytes than HAProxy's page has."""
    phrase = HTTPStatus(status).phrase
    body = json.dumps({"status": status, "code": _FAULTS[status][0], "title": phrase}, separators=(",", ":"))
    head = f"HTTP/1.1 {status} {phrase}\r\ncontent-length: {len(body)}\r\ncontent-type: {_PROBLEM}\r\nconnection: close"
    return f"{head}\r\n\r\n{body}".encode()


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
    # Gateways have all paths, so that a text 404 is Ray's proxy's, which knows of none yet.
    told = {status: status for status in _FAULTS} | {404: 503}
    replaced = [
        f"http-response return status {said} {_said(run, said)} if {{ status {status} }} {plain}"
        for status, said in told.items()
    ]
    return [*(rule.format(**words) for rule in _FRONT), *replaced]


def _after(place: str, lines: list[str]) -> str:
    """A command of sed that puts lines after the one that it finds."""
    return f"{place}a\\\n" + "\\\n".join(f"\\    {line}" for line in lines) + "\n"
