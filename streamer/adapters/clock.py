"""The machine's own time."""

import time


class SystemClock:
    """`streamer.ports.Clock`."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> float:
        return time.time() * 1000
