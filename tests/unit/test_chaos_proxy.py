"""The laboratory's network: passes, is cut, is silent, is slow, and is whole again."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ops.local.process import free_ports
from tests.fault.lab.proxy import Proxy

SILENT_S = 0.3


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of a server that sends everything back."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo(connection: socket.socket) -> None:
            with connection:
                while data := connection.recv(4096):
                    connection.sendall(data)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=echo, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        made = Proxy(free_ports(1)[0], server.getsockname()[1])
        yield made
        made.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def asked(connection: socket.socket, text: bytes = b"hello") -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def test_it_passes_on(proxy: Proxy):
    with connect(proxy) as one:
        assert asked(one) == b"hello"


def test_cut_breaks_connections_and_refuses_new_ones(proxy: Proxy):
    with connect(proxy) as one:
        assert asked(one) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionError):
            if asked(one) == b"":
                raise ConnectionResetError
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as again:
        assert asked(again) == b"hello"


def test_silence_holds_everything_until_it_is_healed(proxy: Proxy):
    with connect(proxy) as one:
        assert asked(one) == b"hello"
        proxy.freeze()
        one.settimeout(SILENT_S)
        with pytest.raises(TimeoutError):
            asked(one, b"are you there")
        with connect(proxy) as new:
            new.settimeout(SILENT_S)
            with pytest.raises(TimeoutError):
                asked(new)
            proxy.heal()
            one.settimeout(10)
            new.settimeout(10)
            assert one.recv(100) == b"are you there"
            assert new.recv(100) == b"hello"


def test_slow_takes_its_time_each_way(proxy: Proxy):
    with connect(proxy) as one:
        proxy.slow(0.1)
        began_s = time.monotonic()
        assert asked(one) == b"hello"
        assert time.monotonic() - began_s >= 0.2
