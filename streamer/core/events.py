"""One input as the stream sees it: a Kafka record, and the reasons for which it can never be decided."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

MAX_JSON_BYTES = 256 * 1024
MAX_BULK_BYTES = 8 * 1024 * 1024
MAX_BULK_ROWS = 16_384
MAX_TRACK_ID_CHARACTERS = 256
MAX_MESSAGE_CHARACTERS = 500  # of error.message: a header, not a document

JSON_CONTENT_TYPE = "application/json"
ARROW_CONTENT_TYPE = "application/vnd.apache.arrow.stream"


class Record(Protocol):
    """What the stream reads of a consumed Kafka record (aiokafka's ConsumerRecord has this shape)."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; -1 where the producer gave none."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Code(StrEnum):
    """Why an input is a dead letter: the header `error.code`. Additive only; consumers group by it."""

    NOT_JSON = "not-json"  # does not parse, or is not UTF-8
    NOT_ARROW = "not-arrow"  # a bulk message that is no Arrow IPC stream, or lies about its sizes
    WRONG_SHAPE = "wrong-shape"  # parses, but a value has the wrong JSON type
    TOO_LARGE = "too-large"
    EMPTY_VALUE = "empty-value"
    UNSUPPORTED_CONTENT_TYPE = "unsupported-content-type"
    MISSING_FIELD = "missing-field"
    WRONG_LENGTH = "wrong-length"
    MISSING_NAME = "missing-name"  # object form without one of the vocabulary's names
    UNKNOWN_NAME = "unknown-name"  # object form with a name that the vocabulary has not
    NOT_A_PROBABILITY = "not-a-probability"
    FINGERPRINT_REQUIRED = "fingerprint-required"
    FINGERPRINT_MISMATCH = "fingerprint-mismatch"
    BAD_TRACK_ID = "bad-track-id"
    KEY_MISMATCH = "key-mismatch"
    UNREADABLE = "unreadable"  # no record: a batch of them, or the rest of one, that breaks Kafka's format
    OUTPUT_REFUSED = "output-refused"  # decided, but its decision is too large for the topic of decisions


class Rejected(Exception):
    """This input can never be decided. `field` is a path such as `genres.tags[17]`, or `` for the whole."""

    def __init__(self, code: Code, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:MAX_MESSAGE_CHARACTERS]
        self.field = field[:MAX_MESSAGE_CHARACTERS]
