"""One number per tag, and a version that names exactly these numbers.

Whoever edits a threshold, with whatever tool, ends here: the live Redis hash laid over the model's tuned values
becomes one immutable table, or is refused whole, naming the tag. Knows nothing of Redis, files or time.

Notable choices:
- A value and its canonical text are the same number: both come from formatting with 6 decimals, so a table read
  back from its canonical JSON is the table, bit for bit.
- `off` becomes +inf, so that `score >= value` needs no second condition.
- Text is read as `[+-]digits[.digits][e[+-]digits]`, surrounding white space stripped (`redis-cli -x` sends a
  newline along); Python's own extras (`1_0`, `nan`, `inf`, other scripts' digits) are refused. `off` is exactly
  `off`.
- The range is checked before rounding: 1.0000001 is refused, not rounded to 1.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.errors import TagstreamError

OFF = "off"
VERSION_CHARACTERS = 12  # hex digits of the sha256
MAX_SHOWN_CHARACTERS = 60  # of a refused value or name in a message

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

Threshold = float | str | bytes


class BadThreshold(TagstreamError):
    """A table that cannot be used, because of `tag` (`` where it is no single tag's fault) and its `value`."""

    def __init__(self, tag: str, value: object, message: str) -> None:
        super().__init__(message)
        self.tag = tag
        self.value = value
        self.message = message


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdTable:
    """The thresholds in effect. Two tables are the same where their versions are."""

    tags: tuple[str, ...]
    values: NDArray[np.float64]  # [T] read-only; +inf for `off`
    version: str
    canonical: str  # the very JSON that was hashed

    @classmethod
    def build(
        cls, tags: Sequence[str], mapping: Mapping[str, Threshold], tuned: Mapping[str, Threshold]
    ) -> "ThresholdTable":
        """The live `mapping` laid over the `tuned` values: a tag it lacks keeps its tuned threshold.

        Raises:
            BadThreshold: an unknown tag, an invalid value, or a tag that has neither: the table is refused whole.
        """
        known = set(tags)
        for source in (mapping, tuned):
            for tag in source:
                if tag not in known:
                    raise BadThreshold(tag, source[tag], _unknown_tag(tag, tags))
        texts: dict[str, str] = {}
        for tag in tags:
            if tag in mapping:
                texts[tag] = threshold_text(tag, mapping[tag])
            elif tag in tuned:
                texts[tag] = threshold_text(tag, tuned[tag])
            else:
                raise BadThreshold(tag, None, f"tag {_shown(tag)} has no threshold, neither live nor tuned")
        values = np.array([math.inf if texts[tag] == OFF else float(texts[tag]) for tag in tags], np.float64)
        values.setflags(write=False)
        canonical = json.dumps(texts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return cls(tuple(tags), values, table_version(canonical), canonical)

    @classmethod
    def from_canonical(cls, tags: Sequence[str], text: str | bytes) -> "ThresholdTable":
        """The table that was hashed as this JSON; it must name every tag.

        Raises:
            BadThreshold: not a flat JSON object of thresholds, or not of this vocabulary.
        """
        try:
            mapping = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadThreshold("", text, f"the table is not JSON: {error}") from None
        if not isinstance(mapping, dict):
            raise BadThreshold("", text, "the table is not a JSON object of tag -> threshold")
        return cls.build(tags, mapping, {})

    def as_hash(self) -> dict[str, str]:
        """Tag -> canonical text, in vocabulary order: what a live Redis hash of this table holds."""
        texts = json.loads(self.canonical)
        return {tag: texts[tag] for tag in self.tags}


def table_version(canonical: str) -> str:
    """The thresholds version that this canonical JSON has."""
    return hashlib.sha256(canonical.encode()).hexdigest()[:VERSION_CHARACTERS]


def threshold_text(tag: str, value: object) -> str:
    """The canonical text of one threshold: 6 decimals, or `off`.

    Raises:
        BadThreshold: neither `off` nor a finite number in [0, 1].
    """
    number = _number(value)
    if number is None:
        return OFF
    if not 0.0 <= number <= 1.0:  # false for NaN too
        hint = "; write off in lower case" if str(value).strip().lower() == OFF else ""
        message = f"the threshold of {_shown(tag)} is {_shown(value)}: a number in [0, 1] or off is needed{hint}"
        raise BadThreshold(tag, value, message)
    return f"{abs(number):.6f}"  # abs: -0.0 is 0.000000


def _number(value: object) -> float | None:
    """The number as given, None for `off`, NaN for what is neither."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        text = value.strip(" \t\r\n")
        if text == OFF:
            return None
        return float(text) if _NUMBER.fullmatch(text) else math.nan
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value) if -1 <= value <= 2 else math.nan  # an int of 400 digits has no float
    return math.nan


def _unknown_tag(tag: str, tags: Sequence[str]) -> str:
    near = difflib.get_close_matches(tag[:MAX_SHOWN_CHARACTERS], tags, n=3, cutoff=0.6)
    hint = f"; the nearest: {', '.join(near)}" if near else ""
    return f"tag {_shown(tag)} is not in the vocabulary{hint}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "..."
