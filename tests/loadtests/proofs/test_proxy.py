import socket
import threading

import pytest

from loadtests.proofs.proxy import BODY, Proxy


class Echo:
    """Answers every line with so many bytes as it says."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.listener.fileno() >= 0:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                lines.write(b"x" * int(line))
                lines.flush()


@pytest.fixture
def proxy():
    echo = Echo()
    held = Proxy(echo.port)
    yield held
    held.close()
    echo.listener.close()


@pytest.fixture
def client(proxy):
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    with connection, connection.makefile("rwb") as lines:
        yield lines


def ask(client, count):
    client.write(b"%d\n" % count)
    client.flush()
    return client.read(count)


def test_it_passes_everything_on(client):
    assert ask(client, 10) == b"x" * 10
    assert ask(client, 3 * BODY) == b"x" * 3 * BODY


def test_it_damages_bodies_and_leaves_headers_alone(client, proxy):
    proxy.turn("corrupt")
    assert ask(client, BODY) == b"x" * BODY
    assert ask(client, 3 * BODY) != b"x" * 3 * BODY
    assert proxy.damaged > 0
    proxy.turn("pass")
    assert ask(client, 3 * BODY) == b"x" * 3 * BODY


def test_a_stall_holds_back_and_loses_nothing(client, proxy):
    assert ask(client, 1) == b"x"
    proxy.turn("stall")
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(client, 5)))
    asking.start()
    other = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)  # connections are still taken
    assert answers == []
    proxy.turn("pass")
    asking.join(60)
    assert answers == [b"x" * 5]
    other.close()


def test_closing_cuts_every_connection(proxy):
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    with connection, connection.makefile("rwb") as lines:
        assert ask(lines, 1) == b"x"
        proxy.close()
        assert lines.read(1) == b""
    proxy.__init__(1)  # for the fixture to close
