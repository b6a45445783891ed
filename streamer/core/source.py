"""Where an event stood in the input topic, as the header `source` says it: `topic/partition/offset/row`."""

import re
from typing import NamedTuple

from streamer.core.ids import source_text

_NUMBER = re.compile(r"[0-9]{1,18}")


class Source(NamedTuple):
    """The coordinates of one track's event."""

    topic: str
    partition: int
    offset: int
    row: int

    @classmethod
    def parse(cls, text: str | bytes) -> "Source | None":
        """The header; None for anything else."""
        try:
            topic, *numbers = (text if isinstance(text, str) else text.decode("utf-8")).rsplit("/", 3)
        except UnicodeDecodeError:
            return None
        if not topic or len(numbers) != 3 or not all(_NUMBER.fullmatch(number) for number in numbers):
            return None
        return cls(topic, *map(int, numbers))

    def __str__(self) -> str:
        return source_text(*self)
