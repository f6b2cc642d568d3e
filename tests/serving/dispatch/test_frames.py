"""Messages come out as they went in, however the bytes are cut; and a stranger gets nowhere."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.dispatch.frames import MOST_UNKNOWN, Frames, Kind


class Socket:
    def __init__(self):
        self.options = {}

    def setsockopt(self, level, name, value):
        self.options[level, name] = value


class Transport:
    def __init__(self):
        self.sent = bytearray()
        self.ends = []
        self.socket = Socket()

    def get_extra_info(self, name):
        return getattr(self, name)

    def get_write_buffer_size(self):
        return len(self.sent)

    def write(self, data):
        self.sent += data

    def is_closing(self):
        return bool(self.ends)

    def close(self):
        self.ends.append("closed")

    def abort(self):
        self.ends.append("aborted")


class End(Frames):
    def __init__(self, known=True):
        super().__init__()
        self.came = []
        self.over = []
        self.error = None
        self.transport = Transport()
        self.connection_made(self.transport)
        if known:
            self.trusted()

    def got(self, kind, data):
        if self.error is not None:
            raise self.error
        self.came.append((kind, bytes(data)))

    def ended(self, error):
        self.over.append(error)


def sent(*messages) -> bytes:
    end = End()
    for kind, data in messages:
        end.send(kind, data)
    return bytes(end.transport.sent)


messages = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=20)), max_size=5)


@given(messages, st.data())
def test_messages_arrive_in_order_however_they_are_cut(told, data):
    raw, end = sent(*told), End()
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        end.data_received(raw[:size])
        raw = raw[size:]
    assert end.came == told
    assert not end.over


def test_a_message_is_its_receivers_own():
    end, kept = End(), []
    end.got = lambda _, data: kept.append(data)
    end.data_received(sent((Kind.REPLIES, b"abc"), (Kind.REPLIES, b"xyz")))
    kept[0][0] = 0
    assert kept == [bytearray(b"\x00bc"), bytearray(b"xyz")]


@pytest.mark.parametrize(("known", "cut"), [(False, True), (True, False)])
def test_a_stranger_may_not_send_much(known, cut):
    end = End(known)
    end.data_received(sent((Kind.HELLO, b"x" * (MOST_UNKNOWN + 1)))[:5])
    assert (end.transport.ends == ["aborted"]) is cut
    assert len(end.over) == cut


def test_whoever_sends_nonsense_is_cut_off_once():
    end = End()
    end.data_received(b"\x00\x00\x00\x00\xff" + sent((Kind.BYE, b"")))
    end.data_received(sent((Kind.BYE, b"")))
    end.connection_lost(None)
    assert end.came == []
    assert end.transport.ends == ["aborted"]
    assert [type(error) for error in end.over] == [ValueError]


def test_what_a_message_raises_ends_the_connection():
    end = End()
    end.error = PermissionError("no")
    end.data_received(sent((Kind.HELLO, b"x"), (Kind.HELLO, b"x")))
    assert end.over == [end.error]


def test_an_end_is_told_once_and_nothing_is_sent_after_it():
    end = End()
    end.close()
    end.send(Kind.CANCEL, b"[]")
    end.connection_lost(None)
    end.connection_lost(None)
    end.send(Kind.CANCEL, b"[]")
    assert end.over == [None]
    assert not end.transport.sent


def test_a_host_that_is_gone_is_given_up_whether_something_was_sent_to_it_or_not():
    told = End().transport.socket.options
    assert told[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
    idle, again, times = (
        told[socket.IPPROTO_TCP, name] for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert told[socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT] == 1000 * (idle + again * times) == 11_000


def test_what_waits_for_a_reader_is_known():
    end = End()
    end.send(Kind.REPLIES, b"abc")
    assert end.unsent == 5 + 3
    end.connection_lost(None)
    assert end.unsent == 0


def test_a_connection_is_cut_at_once_or_closed_once_all_is_sent():
    one, two = End(), End()
    one.cut()
    two.close()
    assert (one.transport.ends, two.transport.ends) == (["aborted"], ["closed"])
