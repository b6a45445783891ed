"""The stream as an AsyncAPI 3 document: topics, messages, headers and keys, for neighbours' own tools.

Made from what the code obeys: the pydantic models of event and decision, the headers below (a test holds real records
against them) and the topic settings that `topics create` makes. Partition counts and copies are the operator's.
"""

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from streamer.adapters.kafka_topic_contract import plan_topics
from streamer.adapters.schema import Decision, ProbabilityEvent
from streamer.core.events import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE, MAX_TRACK_ID_CHARACTERS, Code
from streamer.settings import Settings

ASYNCAPI = "3.0.0"
KAFKA_BINDING = "0.5.0"
SAFE_COPIES = 3  # for which `topics create` sets what is to be in sync
NUMBERS = ("retention.ms", "max.message.bytes")  # of a topic's settings, those that the binding knows as numbers

Document = dict[str, Any]


class _Headers(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)


class DecisionHeaders(_Headers):
    """Headers of a decision: UTF-8 text."""

    content_type: str = Field(alias="content-type", examples=[JSON_CONTENT_TYPE])
    decision_id: str = Field(
        alias="decision-id",
        pattern="^[0-9a-f]{16}$",
        description="equal for a redelivery: compare it with the track's last one",
        examples=["5ab3c9d81e07f642"],
    )
    model: str = Field(description="model version", examples=["20261122T094500Z-1a2b3c4d"])
    thresholds: str = Field(description="thresholds version", examples=["9f03c2d1e4aa"])


class ScoresHeaders(_Headers):
    """Headers of retained scores: UTF-8 text."""

    model: str = Field(description="model version", examples=["20261122T094500Z-1a2b3c4d"])
    vocabulary: str = Field(description="the vocabulary's fingerprint: names and order", examples=["3f9c0a17b2de"])
    thresholds: str = Field(description="the version last published under", examples=["9f03c2d1e4aa"])
    source: str = Field(description="topic/partition/offset/row", examples=["tracks.probabilities/3/18234/0"])


class DeadLetterHeaders(_Headers):
    """What follows the event's own headers, from `error.code` on: UTF-8 text."""

    code: Code = Field(alias="error.code", description="more may come: treat an unknown one as any other")
    message: str = Field(alias="error.message", examples=["genres.tags has 109 numbers, the vocabulary has 110"])
    field: str = Field(alias="error.field", description="may be empty", examples=["genres.tags"])
    source: str = Field(description="topic/partition/offset/row", examples=["tracks.probabilities/3/18234/0"])
    worker: str = Field(examples=["worker-a"])
    failed_at: str = Field(description="RFC 3339, UTC", examples=["2026-11-22T09:45:00.123Z"])
    attempt: str = Field(pattern="^[0-9]+$", description="how often it has been tried, 1 and up", examples=["1"])
    value_omitted: str | None = Field(default=None, alias="value.omitted", description="bytes of a value left out")
    key_omitted: str | None = Field(default=None, alias="key.omitted", description="bytes of a key left out")
    headers_cut: str | None = Field(default=None, alias="headers.cut", description="headers that were left out")


class EventHeaders(_Headers):
    """Headers of an event; others are kept in a dead letter and otherwise ignored."""

    content_type: str = Field(default=JSON_CONTENT_TYPE, alias="content-type", description="JSON where there is none")


class BulkHeaders(_Headers):
    """Headers of a bulk message."""

    content_type: str = Field(alias="content-type", pattern=f"^{ARROW_CONTENT_TYPE}")


PAYLOADS: tuple[type[BaseModel], ...] = (
    ProbabilityEvent, Decision, EventHeaders, BulkHeaders, DecisionHeaders, ScoresHeaders, DeadLetterHeaders,
)  # fmt: skip


def document() -> Document:
    """The whole of it; operations are ours: what we receive you send, what we send you receive."""
    _, schemas = models_json_schema([(model, "validation") for model in PAYLOADS], ref_template=_schema("{model}"))
    channels = _channels()
    ours = {"probabilities": "receive", "tags": "send", "scores": "send", "deadletter": "send"}
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "tagstream",
            "version": version("tagstream"),
            "description": "Probabilities in, tag decisions out. The words are in docs/contract.md; additive only.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON_CONTENT_TYPE,
        "channels": channels,
        "operations": {
            f"{action}-{name}": {"action": action, "channel": {"$ref": f"#/channels/{name}"}}
            for name, action in ours.items()
        },
        "components": {"schemas": schemas["$defs"], "messages": _messages()},
    }


def _channels() -> Document:
    said = {
        "probabilities": (("event", "bulk", "withdrawal"), "probability events, keyed by track id: murmur2 partitions"),
        "tags": (("decision", "gone"), "the last decision of every track, in the partition number of its event"),
        "scores": (("scores", "gone"), "the last scores of every track, in the partition number of its event"),
        "deadletter": (("deadletter",), "inputs that can never be decided, as they came"),
    }
    plans = plan_topics(Settings(_env_file=None), SAFE_COPIES)  # type: ignore[call-arg]
    return {
        name: {
            "address": plan.name,
            "description": description,
            "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
            "bindings": {"kafka": {"topicConfiguration": _topic(plan.config), "bindingVersion": KAFKA_BINDING}},
        }
        for plan, (name, (messages, description)) in zip(plans, said.items(), strict=True)
    }


def _topic(config: Any) -> Document:
    known: Document = {"cleanup.policy": [config["cleanup.policy"]]}
    return known | {name: int(config[name]) for name in NUMBERS if name in config}


def _messages() -> Document:
    track = {"type": "string", "minLength": 1, "maxLength": MAX_TRACK_ID_CHARACTERS, "description": "the track id"}
    nothing, octets = {"type": "null"}, {"type": "string", "format": "binary"}
    return {
        "event": _message("a new track", _ref(ProbabilityEvent), EventHeaders, track),
        "bulk": _message(
            "many tracks of one partition, as an Arrow stream", octets, BulkHeaders, content=ARROW_CONTENT_TYPE
        ),
        "withdrawal": _message("the track is withdrawn", nothing, None, track),
        "decision": _message("the tags of a track", _ref(Decision), DecisionHeaders, track),
        "gone": _message("the track was withdrawn", nothing, None, track),
        "scores": _message(
            "float16 little-endian, all tags in vocabulary order",
            octets,
            ScoresHeaders,
            track,
            "application/octet-stream",
        ),
        "deadletter": _message(
            "the bytes as they came, under the key as it came",
            octets,
            DeadLetterHeaders,
            content="application/octet-stream",
        ),
    }


def _message(
    summary: str, payload: Document, headers: type[BaseModel] | None, key: Document | None = None, content: str = ""
) -> Document:
    made: Document = {"summary": summary, "payload": payload, "contentType": content or JSON_CONTENT_TYPE}
    if headers is not None:
        made["headers"] = _ref(headers)
    if key is not None:
        made["bindings"] = {"kafka": {"key": key, "bindingVersion": KAFKA_BINDING}}
    return made


def _ref(model: type[BaseModel]) -> Document:
    return {"$ref": _schema(model.__name__)}


def _schema(name: str) -> str:
    return f"#/components/schemas/{name}"
