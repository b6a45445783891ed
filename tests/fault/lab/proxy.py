"""A network that can be cut, frozen and slowed: a TCP proxy on 127.0.0.1, in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

CHUNK_BYTES = 256 * 1024


class Proxy:
    """Passes what comes to `port` on to `target_port`, as if from `host`. Call its methods from any thread."""

    def __init__(self, port: int, target_port: int, host: str = "127.0.0.1") -> None:
        self.port, self.target_port, self.host = port, target_port, host
        self._delay_s = 0.0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._heal())

    def cut(self) -> None:
        """Every connection is broken, and new ones are refused."""
        self._run(self._cut())

    def freeze(self) -> None:
        """Nothing gets through any more, and nobody is told; what was sent meanwhile arrives after `heal`."""
        self._run(self._freeze())

    def slow(self, delay_s: float) -> None:
        """Everything sent arrives `delay_s` later, in each direction."""
        self._delay_s = delay_s

    def heal(self) -> None:
        """All is well again."""
        self._run(self._heal())

    def close(self) -> None:
        """End it for good."""
        self._run(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _heal(self) -> None:
        self._delay_s = 0.0
        self._open.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _freeze(self) -> None:
        self._open.clear()

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # cut; asyncio's own streams would log it as an error
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self.target_port, local_addr=(self.host, 0))
        except OSError:
            return  # as refused
        pumps = [asyncio.ensure_future(self._pump(*ends)) for ends in ((reader, onward), (there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            onward.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._open.wait()
                writer.write(chunk)
                await writer.drain()
