"""Every setting of the product, read from `TAGSTREAM_*` environment variables; README holds the same table."""

import difflib
import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamer.core.errors import TagstreamError

HEARTBEATS_PER_SESSION = 3  # the lease before publishing lasts three quarters of a session: two may be late
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
# Read by the local services, the tests and CI, not by the worker.
OTHER_VARIABLES = {"TAGSTREAM_CACHE_DIR", "TAGSTREAM_REQUIRE_REAL"}


def _default_worker() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(BaseSettings):
    """One field per `TAGSTREAM_<NAME>`; units are in the names."""

    model_config = SettingsConfigDict(env_prefix="TAGSTREAM_", extra="ignore")

    kafka_bootstrap: str = Field("localhost:9092", description="Kafka brokers, host:port, separated by commas")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to Kafka"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, where the protocol is SASL_*"
    )
    kafka_sasl_username: str = Field("", description="SASL user")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="SASL password")
    kafka_sasl_password_file: Path | None = Field(None, description="file that holds it instead, as containers have it")
    kafka_ssl_cafile: Path | None = Field(None, description="CA certificates (PEM) that Kafka's must chain to")
    kafka_ssl_certfile: Path | None = Field(None, description="client certificate (PEM) for mTLS")
    kafka_ssl_keyfile: Path | None = Field(None, description="its private key (PEM), if not in the same file")
    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"), description="Redis; rediss:// for TLS, user and password in the URL"
    )
    redis_url_file: Path | None = Field(None, description="file that holds it instead, as containers have it")
    redis_ssl_cafile: Path | None = Field(None, description="CA certificates (PEM) that Redis's must chain to")
    redis_ssl_certfile: Path | None = Field(None, description="client certificate (PEM) for Redis")
    redis_ssl_keyfile: Path | None = Field(None, description="its private key (PEM), if not in the same file")
    redis_prefix: str = Field("tagstream:", description="prefix of every Redis key")

    group: str = Field("tagstream", description="Kafka consumer group of the workers")
    topic_probabilities: str = Field("tracks.probabilities", description="input topic")
    topic_tags: str = Field("tracks.tags", description="decisions, compacted")
    topic_scores: str = Field("tracks.scores", description="retained scores, compacted")
    topic_deadletter: str = Field("tracks.deadletter", description="inputs that can never be decided")

    models_dir: Path = Field(Path("models"), description="folder of model artefacts, shared by the workers")
    state_dir: Path = Field(Path(".tagstream/state"), description="last good model and thresholds, a file per worker")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")

    batch_max: int = Field(1024, ge=1, le=65_536, description="most tracks in a micro-batch")
    linger_s: float = Field(0.02, ge=0, le=10, description="longest wait for a micro-batch to fill, seconds")
    commit_interval_s: float = Field(0.25, gt=0, le=60, description="seconds between offset commits")
    session_timeout_s: float = Field(8.0, ge=6, le=300, description="Kafka session timeout, seconds (6 at least)")
    heartbeat_s: float = Field(2.0, gt=0, le=60, description="Kafka heartbeat interval, seconds")
    drain_s: float = Field(
        12.0, gt=0, le=14, description="longest wait for what is in flight at SIGTERM or a rebalance, seconds"
    )
    thresholds_poll_s: float = Field(0.5, gt=0, le=60, description="seconds between polls of Redis, beside the push")
    breaker_share: float = Field(
        0.5, gt=0, le=1, description="share of inputs that become dead letters above which a worker pauses (1: never)"
    )
    breaker_inputs: int = Field(1000, ge=1, description="inputs within the window below which it never pauses")
    breaker_window_s: float = Field(60.0, ge=1, le=3600, description="window over which that share is taken, seconds")
    breaker_resume_s: float = Field(
        300.0, ge=0, description="seconds until a paused worker tries again; 0 waits for `tagstream deadletter resume`"
    )

    stall_s: float = Field(
        60.0, ge=4, le=3600, description="seconds with lag and no progress after which a worker ends; not ready at half"
    )

    worker: str = Field(default_factory=_default_worker, description="this worker's name (host-pid)", max_length=200)
    metrics_host: str = Field("127.0.0.1", description="address that /metrics and /health listen on")
    metrics_port: int = Field(9464, ge=0, le=65_535, description="port of /metrics and /health; 0 takes a free one")
    console_host: str = Field("127.0.0.1", description="address that `tagstream console` listens on")
    console_port: int = Field(8470, ge=0, le=65_535, description="its port; 0 takes a free one")
    console_users: SecretStr = Field(
        SecretStr(""), description="who may use it, `NAME:ROLE:TOKEN` each (role read or write); needed beyond loopback"
    )
    console_users_file: Path | None = Field(None, description="file that holds them instead, as containers have it")
    console_ssl_certfile: Path | None = Field(None, description="certificate (PEM) of the console, for https")
    console_ssl_keyfile: Path | None = Field(None, description="its private key (PEM), if not in the same file")
    log_level: Literal["debug", "info", "warn", "error"] = Field("info", description="log level")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON")

    @field_validator("heartbeat_s")
    @classmethod
    def _heartbeat_within_session(cls, heartbeat_s: float, known: ValidationInfo) -> float:
        longest_s = known.data.get("session_timeout_s", math.inf) / HEARTBEATS_PER_SESSION
        if heartbeat_s > longest_s:
            raise ValueError(f"it must be at most a third of TAGSTREAM_SESSION_TIMEOUT_S, {longest_s:g} s")
        return heartbeat_s

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(REDIS_SCHEMES):
            raise ValueError(f"it must begin with {', '.join(REDIS_SCHEMES)}")
        return url

    @model_validator(mode="after")
    def _topics_differ(self) -> "Settings":
        names = [self.topic_probabilities, self.topic_tags, self.topic_scores, self.topic_deadletter]
        if not all(names) or len(set(names)) < len(names):
            _refuse("TOPIC_*", f"the four topics need four different names, not {', '.join(map(repr, names))}")
        return self

    @model_validator(mode="after")
    def _secrets_from_files(self) -> "Settings":
        for name in ("kafka_sasl_password", "redis_url", "console_users"):
            path: Path | None = getattr(self, f"{name}_file")
            if path is None:
                continue
            if name in self.model_fields_set:
                _refuse(f"{name}_file", f"TAGSTREAM_{name.upper()} is set too: which of the two?")
            try:
                secret = SecretStr(path.read_text(encoding="utf-8").rstrip("\r\n"))
            except (OSError, UnicodeDecodeError) as error:
                _refuse(f"{name}_file", f"{path} cannot be read ({type(error).__name__})")
            if name == "redis_url" and not secret.get_secret_value().startswith(REDIS_SCHEMES):
                _refuse("redis_url_file", f"what {path} holds must begin with {', '.join(REDIS_SCHEMES)}")
            object.__setattr__(self, name, secret)
        return self

    @model_validator(mode="after")
    def _nothing_in_the_clear_by_mistake(self) -> "Settings":
        """Who sets a password or an authority means a login or TLS: without the protocol it would go in the clear."""
        protocol = self.kafka_security_protocol
        for name in ("kafka_sasl_username", "kafka_sasl_password"):
            if bool(_revealed(getattr(self, name))) != protocol.startswith("SASL"):
                lacks = "wants it" if protocol.startswith("SASL") else "uses no login"
                _refuse(name, f"TAGSTREAM_KAFKA_SECURITY_PROTOCOL is {protocol} and {lacks}")
        for name in ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile"):
            if getattr(self, name) is not None and not protocol.endswith("SSL"):
                _refuse(name, f"TAGSTREAM_KAFKA_SECURITY_PROTOCOL is {protocol} and uses no TLS")
        for name in ("redis_ssl_cafile", "redis_ssl_certfile", "redis_ssl_keyfile"):
            if getattr(self, name) is not None and not self.redis_url.get_secret_value().startswith("rediss://"):
                _refuse(name, "TAGSTREAM_REDIS_URL is not rediss:// and uses no TLS")
        for service in ("kafka", "redis", "console"):
            if getattr(self, f"{service}_ssl_keyfile") and not getattr(self, f"{service}_ssl_certfile"):
                _refuse(f"{service}_ssl_keyfile", "a key without its certificate")
        return self


def _revealed(value: SecretStr | str) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _refuse(name: str, why: str) -> NoReturn:
    """For what concerns more than one field: pydantic tells no name for those."""
    raise ValueError(f"TAGSTREAM_{name.upper()} is not usable: {why}")


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; `overrides` that are not None win.

    Raises:
        TagstreamError: naming the variable and what is wrong with it.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise TagstreamError(f"{message}.") from None
        variable = "TAGSTREAM_" + "_".join(str(part) for part in first["loc"]).upper()
        raise TagstreamError(f"{variable} is not usable: {message}.") from None


def misspelt_variables(environment: Mapping[str, str]) -> list[str]:
    """What to tell about each TAGSTREAM_ variable that is no setting: it would be ignored without a word."""
    known = {f"TAGSTREAM_{name.upper()}" for name in Settings.model_fields}
    told = []
    for variable in sorted(environment):
        if variable.startswith("TAGSTREAM_") and variable not in known | OTHER_VARIABLES:
            nearest = difflib.get_close_matches(variable, known, 1)
            told.append(f"{variable} is no setting" + (f": did you mean {nearest[0]}?" if nearest else ""))
    return told
