"""The event and the decision as pydantic models: the published shape, and the slow, thorough validation.

The models are what `docs/schema/` is generated from. `parse` and `explain` are the judges of an event: the fast
decoder (json_events.py) accepts only what they accept, with the same numbers, and asks them about everything else.

Notable choices:
- JSON is parsed with the standard library, which reads `NaN` and `Infinity`, so that a refusal can name the field;
  an event that is otherwise valid but has one in an ignored field is still not JSON.
- What depends on the vocabulary (fingerprint, lengths, names) is checked on the raw object first, and the lists it
  refuses are taken out before pydantic looks at the rest: an event yields at most a vocabulary's worth of problems,
  whatever its size.
- A UTF-8 byte order mark is skipped, as RFC 8259 lets a reader do. `"vocabulary": null` is an absent fingerprint.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from streamer.core.events import MAX_JSON_BYTES, MAX_TRACK_ID_CHARACTERS, Code, Rejected
from streamer.core.layout import CLASSES, LISTS, Layout

MAX_NESTING = 100  # arrays and objects inside each other; an event needs three
MAX_SHOWN_CHARACTERS = 60  # of an input's own words in a message or a field

Probability = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False, examples=[0.02])]


_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _form(value: object) -> str | None:
    """Which of the two forms of a list this is; pydantic refuses None with `union_tag_not_found`."""
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else None


Probabilities = Annotated[
    Annotated[list[Probability], Tag("array")] | Annotated[dict[str, Probability], Tag("object")],
    Discriminator(_form),
]


class ClassProbabilities(BaseModel):
    """Upstream's numbers for one class: each list an array in vocabulary order, or an object by name."""

    tags: Probabilities = Field(
        default=[],
        description="one number per tag; may be absent where the vocabulary has none",
        examples=[[0.02, 0.91]],
    )
    categories: Probabilities = Field(
        default=[],
        description="one number per category; may be absent where the vocabulary has none",
        examples=[{"electronic": 0.11}],
    )


class ProbabilityEvent(BaseModel):
    """One new track's probabilities: the value of a record of `tracks.probabilities`, keyed by track_id.

    Unknown extra fields are ignored. At most 256 KiB.
    """

    track_id: str = Field(
        min_length=1,
        max_length=MAX_TRACK_ID_CHARACTERS,
        description="equal to the record's key where there is one",
        examples=["T-000123"],
    )
    vocabulary: str | None = Field(
        default=None,
        description="the vocabulary's fingerprint: required with arrays, optional where every list is an object",
        examples=["3f9c0a17b2de"],
    )
    genres: ClassProbabilities = Field(
        default=ClassProbabilities(), description="may be absent where the vocabulary has none"
    )
    instruments: ClassProbabilities = Field(
        default=ClassProbabilities(), description="may be absent where the vocabulary has none"
    )
    moods: ClassProbabilities = Field(
        default=ClassProbabilities(), description="may be absent where the vocabulary has none"
    )


class DecidedTags(BaseModel):
    """The tags of each class by score, highest first, ties in vocabulary order."""

    genres: list[str] = Field(examples=[["indie-rock"]])
    instruments: list[str] = Field(examples=[["bass-guitar"]])
    moods: list[str] = Field(examples=[[]])


class Source(BaseModel):
    """Where the input of a decision came from."""

    topic: str = Field(examples=["tracks.probabilities"])
    partition: int = Field(ge=0, examples=[3])
    offset: int = Field(ge=0, examples=[18234])
    row: int = Field(ge=0, description="the track's place in a bulk message; 0 in a JSON message", examples=[0])


class Decision(BaseModel):
    """The tags of one track under one model and one table of thresholds: the value of a record of `tracks.tags`."""

    model_config = ConfigDict(extra="ignore")

    track_id: str = Field(min_length=1, max_length=MAX_TRACK_ID_CHARACTERS, examples=["T-000123"])
    tags: DecidedTags
    scores: dict[str, Probability] = Field(
        description="of the decided tags: the shortest decimal that reads back to the same float16",
        examples=[{"indie-rock": 0.83, "bass-guitar": 0.41}],
    )
    model: str = Field(description="model version", examples=["20261122T094500Z-1a2b3c4d"])
    thresholds: str = Field(description="thresholds version", examples=["9f03c2d1e4aa"])
    vocabulary: str = Field(description="the vocabulary's fingerprint", examples=["3f9c0a17b2de"])
    decided_at: AwareDatetime = Field(description="UTC, milliseconds", examples=["2026-11-22T09:45:00.123Z"])
    source: Source
    redecided: str | None = Field(default=None, description="the re-decide run, in a re-decision only")
    added: list[str] | None = Field(default=None, description="tags the re-decision added, in a re-decision only")
    removed: list[str] | None = Field(default=None, description="tags the re-decision removed, in a re-decision only")


@dataclass(frozen=True, slots=True)
class _Problem:
    """One reason to refuse an event, at `path`: ("genres", "tags", 3)."""

    code: Code
    message: str
    path: tuple[str | int, ...] = ()

    @property
    def field(self) -> str:
        """`genres.tags[3]`, or `genres.tags.indie-rock` in object form."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{_printable(step)}" for step in self.path)
        return "".join(steps).removeprefix(".")

    @property
    def rank(self) -> int:
        """The place of the field in the contract's example."""
        return _RANKS.get(self.path[:2], _RANKS.get(self.path[:1], 0))


_RANKS: dict[tuple[str | int, ...], int] = {
    path: rank
    for rank, path in enumerate(
        [("track_id",), ("vocabulary",)]
        + [path for name in CLASSES for path in ((name,), *((name, part) for part in LISTS))]
    )
}


def explain(key: bytes | None, value: bytes, layout: Layout) -> Rejected | None:
    """Why this event is refused, or None where it is valid."""
    try:
        parse(key, value, layout)
    except Rejected as rejected:
        return rejected
    return None


def parse(key: bytes | None, value: bytes, layout: Layout) -> tuple[str, list[float]]:
    """The track id and the F numbers of a valid event, in layout column order.

    Raises:
        Rejected: with the first problem in the order of the contract's example, and how many more there are.
    """
    data, constants = _load(value)
    problems = [*_track_id_problems(data, key), *_vocabulary_problems(data, layout)]
    event, wrong = _validated(_without(data, problems))
    problems = sorted([*problems, *wrong], key=lambda problem: problem.rank)
    if problems:
        raise _rejected(problems)
    if constants:
        raise Rejected(Code.NOT_JSON, f"{constants[0]} in an ignored field: JSON has no such number")
    assert event is not None
    numbers: list[float] = []
    for piece in layout.lists:
        given = getattr(getattr(event, piece.class_name), piece.list_name)
        numbers += [given[name] for name in piece.names] if isinstance(given, dict) else given
    return event.track_id, numbers


def _load(value: bytes) -> tuple[dict[str, Any], list[str]]:
    """The event's object, and the NaNs and infinities that were written literally."""
    if len(value) > MAX_JSON_BYTES:
        raise Rejected(Code.TOO_LARGE, f"the event has {len(value):,} bytes, at most {MAX_JSON_BYTES:,} are allowed")
    if not value:
        raise Rejected(Code.EMPTY_VALUE, "the value is empty: an event, or null to withdraw the track, is needed")
    if _is_too_deep(value):
        raise Rejected(Code.NOT_JSON, f"not JSON that can be read: nested too deeply, {MAX_NESTING} levels at most")
    constants: list[str] = []

    def constant(text: str) -> float:
        constants.append(text)
        return float(text)

    try:
        data = json.loads(value.decode("utf-8-sig"), parse_constant=constant)
    except UnicodeDecodeError as error:
        raise Rejected(Code.NOT_JSON, f"not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Rejected(Code.NOT_JSON, f"not JSON: {error.msg.removesuffix(' at')} at character {error.pos}") from None
    except ValueError:  # an integer of more digits than Python converts
        raise Rejected(Code.NOT_JSON, "not JSON that can be read: an integer of thousands of digits") from None
    if not isinstance(data, dict):
        raise Rejected(Code.WRONG_SHAPE, f"the event is {_shown(data)}: an object is needed")
    return data, constants


def _is_too_deep(value: bytes) -> bool:
    """Whether arrays and objects are nested deeper than is read; found without parsing, in time linear in the size.

    What the standard library would bear depends on how deep the interpreter's own stack is at the moment.
    """
    if value.count(b"[") + value.count(b"{") <= MAX_NESTING:
        return False
    outside_strings = b"".join(value.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    depth = 0
    for bracket in outside_strings.translate(None, delete=_NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_NESTING:
            return True
    return False


def _track_id_problems(data: dict[str, Any], key: bytes | None) -> Iterable[_Problem]:
    """A track_id that is one, yet is not the record's key."""
    track_id = data.get("track_id")
    if key is None or not isinstance(track_id, str) or not 1 <= len(track_id) <= MAX_TRACK_ID_CHARACTERS:
        return
    if _encodable(track_id) and track_id.encode() != key:
        begin = key[: 4 * (MAX_SHOWN_CHARACTERS + 1)]  # of 30 MiB the escapes alone would take seconds
        message = f"track_id is {_shown(track_id)}, the key is {_shown(begin.decode('utf-8', 'backslashreplace'))}"
        yield _Problem(Code.KEY_MISMATCH, message, ("track_id",))


def _vocabulary_problems(data: dict[str, Any], layout: Layout) -> Iterable[_Problem]:
    """What only the vocabulary can tell; where the fingerprint is wrong, that alone."""
    given = data.get("vocabulary")
    if isinstance(given, str) and given != layout.fingerprint:
        message = f"vocabulary is {_shown(given)}, the model in use has {_shown(layout.fingerprint)}"
        return [_Problem(Code.FINGERPRINT_MISMATCH, message, ("vocabulary",))]
    groups = {name: data[name] for name in CLASSES if isinstance(data.get(name), dict)}
    if given is None:
        for name, group in groups.items():
            for part in LISTS:
                if isinstance(group.get(part), list) and group[part]:
                    message = f"vocabulary is missing: {name}.{part} is an array, and positions need the fingerprint"
                    return [_Problem(Code.FINGERPRINT_REQUIRED, message, ("vocabulary",))]
    problems = [
        _Problem(Code.MISSING_FIELD, f"{name} is missing", (name,))
        for name in CLASSES
        if name not in data and any(piece.names for piece in layout.lists if piece.class_name == name)
    ]
    for piece in layout.lists:
        if piece.class_name in groups:
            path = (piece.class_name, piece.list_name)
            problems += _list_problems(groups[piece.class_name], path, piece.names)
    return problems


def _list_problems(group: dict[str, Any], path: tuple[str, str], names: tuple[str, ...]) -> Iterable[_Problem]:
    """Length of an array, names of an object; what is neither is left to pydantic."""
    field = ".".join(path)
    if path[1] not in group:
        if names:
            yield _Problem(Code.MISSING_FIELD, f"{field} is missing", path)
        return
    given = group[path[1]]
    if isinstance(given, list) and len(given) != len(names):
        message = f"{field} has {len(given)} number{'s' * (len(given) != 1)}, the vocabulary has {len(names)}"
        yield _Problem(Code.WRONG_LENGTH, message, path)
    elif isinstance(given, dict) and given.keys() != set(names):
        known = set(names)
        unknown = [name for name in given if name not in known]
        missing = [name for name in names if name not in given]
        if unknown:
            message = f"{field} names {_shown(unknown[0])}{_more(unknown)}, which the vocabulary has not"
            yield _Problem(Code.UNKNOWN_NAME, message + _nearest(unknown[0], names), (*path, unknown[0]))
        if missing:
            yield _Problem(
                Code.MISSING_NAME, f"{field} lacks {_shown(missing[0])}{_more(missing)}", (*path, missing[0])
            )


def _without(data: dict[str, Any], problems: Iterable[_Problem]) -> dict[str, Any]:
    """The event less the fields already refused (all lists, where the fingerprint is): pydantic judges the rest."""
    refused = {problem.path[:2] for problem in problems}
    if ("vocabulary",) in refused:
        return {"track_id": data["track_id"]} if "track_id" in data else {}
    rest = dict(data)
    for name in CLASSES:
        if isinstance(rest.get(name), dict):
            rest[name] = {
                part: rest[name][part] for part in LISTS if part in rest[name] and (name, part) not in refused
            }
    return rest


def _validated(data: dict[str, Any]) -> tuple[ProbabilityEvent | None, list[_Problem]]:
    """Shapes, types and ranges, which pydantic checks."""
    try:
        return ProbabilityEvent.model_validate(data), []
    except ValidationError as invalid:
        return None, [_translated(error) for error in invalid.errors(include_url=False, include_context=False)]


def _translated(error: Any) -> _Problem:
    """One of pydantic's errors in the contract's words."""
    given = error["input"]
    path = tuple(step for place, step in enumerate(error["loc"]) if place != 2)  # place 2 names the union's arm
    if path == ("track_id",):
        if error["type"] == "missing":
            return _Problem(Code.MISSING_FIELD, "track_id is missing", path)
        wanted = f"a string of 1 to {MAX_TRACK_ID_CHARACTERS} characters that UTF-8 can carry is needed"
        length = f", {len(given)} characters" if isinstance(given, str) and len(given) > MAX_SHOWN_CHARACTERS else ""
        return _Problem(Code.BAD_TRACK_ID, f"track_id is {_shown(given)}{length}: {wanted}", path)
    field = _Problem(Code.WRONG_SHAPE, "", path).field
    if len(path) > 2:
        message = f"{field} is {_shown(given)}: a probability is a finite number in [0, 1]"
        return _Problem(Code.NOT_A_PROBABILITY, message, path)
    wanted = "a string" if path == ("vocabulary",) else "an object" if len(path) == 1 else "an array or an object"
    return _Problem(Code.WRONG_SHAPE, f"{field} is {_shown(given)}: {wanted} is needed", path)


def _rejected(problems: list[_Problem]) -> Rejected:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Rejected(first.code, first.message + more, first.field)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name[:MAX_SHOWN_CHARACTERS], names, n=1)
    return f"; the nearest is {_shown(near[0])}" if near else ""


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _printable(text: str) -> str:
    """Clipped, and encodable whatever the input held."""
    start = text[: MAX_SHOWN_CHARACTERS + 1].encode("utf-8", "backslashreplace").decode()
    return start if len(start) <= MAX_SHOWN_CHARACTERS else start[:MAX_SHOWN_CHARACTERS] + "..."


def _shown(value: object) -> str:
    """A value as JSON would write it, short; containers by their kind only."""
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "an object"
    if isinstance(value, str):
        return _printable(json.dumps(value[: MAX_SHOWN_CHARACTERS + 1], ensure_ascii=False))
    return _printable(json.dumps(value))
