"""Settings: from the environment, told by the variable's name where they are wrong, secrets never shown."""

import os
import re
from pathlib import Path

import pytest

from streamer.core.errors import TagstreamError
from streamer.settings import Settings, load_settings, misspelt_variables

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TAGSTREAM_")]:
        monkeypatch.delenv(name)


def test_defaults_are_the_contracts():
    settings = load_settings()
    assert (settings.group, settings.redis_prefix) == ("tagstream", "tagstream:")
    assert [settings.topic_probabilities, settings.topic_tags, settings.topic_scores, settings.topic_deadletter] == [
        "tracks.probabilities", "tracks.tags", "tracks.scores", "tracks.deadletter",
    ]  # fmt: skip
    assert settings.drain_s < 29 and settings.thresholds_poll_s < 1


def test_the_environment_is_read_and_overrides_win(monkeypatch):
    monkeypatch.setenv("TAGSTREAM_BATCH_MAX", "64")
    monkeypatch.setenv("TAGSTREAM_LINGER_S", "0.5")
    monkeypatch.setenv("TAGSTREAM_SOMETHING_ELSE", "ignored")
    settings = load_settings(linger_s=0.1, batch_max=None)
    assert (settings.batch_max, settings.linger_s) == (64, 0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("BATCH_MAX", "0"), ("BATCH_MAX", "many"), ("LINGER_S", "-1"), ("LINGER_S", "nan"), ("METRICS_PORT", "70000"),
     ("KAFKA_SECURITY_PROTOCOL", "TLS"), ("LOG_LEVEL", "loud"), ("SESSION_TIMEOUT_S", "1"), ("DRAIN_S", "0"),
     ("COMMIT_INTERVAL_S", "inf"), ("WORKER", "x" * 201)],
)  # fmt: skip
def test_a_value_that_is_wrong_is_told_by_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(f"TAGSTREAM_{name}", value)
    with pytest.raises(TagstreamError) as told:
        load_settings()
    text = str(told.value)
    assert text.startswith(f"TAGSTREAM_{name} is not usable: ") and "\n" not in text and len(text) < 300


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("TAGSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("TAGSTREAM_KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("TAGSTREAM_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("TAGSTREAM_REDIS_URL", "redis://me:hunter2@redis:6379/0")
    settings = load_settings()
    assert settings.redis_url.get_secret_value().startswith("redis://me")
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunter2" not in shown


@pytest.mark.parametrize("name", ["KAFKA_SASL_PASSWORD", "REDIS_URL"])
def test_a_secret_may_stand_in_a_file(monkeypatch, tmp_path, name):
    """As Docker and Kubernetes hand them out: with a line's end that is not part of it."""
    secret, path = "redis://me:hunter2@redis:6379/0", tmp_path / "secret"
    path.write_text(f"{secret}\n")
    monkeypatch.setenv("TAGSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("TAGSTREAM_KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("TAGSTREAM_KAFKA_SASL_PASSWORD", "another")
    monkeypatch.delenv(f"TAGSTREAM_{name}", raising=False)
    monkeypatch.setenv(f"TAGSTREAM_{name}_FILE", str(path))
    settings = load_settings()
    assert getattr(settings, name.lower()).get_secret_value() == secret
    assert "hunter2" not in repr(settings)
    monkeypatch.setenv(f"TAGSTREAM_{name}", secret)
    with pytest.raises(TagstreamError, match=f"^TAGSTREAM_{name}_FILE .*which of the two"):
        load_settings()
    monkeypatch.delenv(f"TAGSTREAM_{name}")
    monkeypatch.setenv(f"TAGSTREAM_{name}_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(TagstreamError, match=f"^TAGSTREAM_{name}_FILE is not usable: .*nowhere"):
        load_settings()


LOGIN = {"kafka_sasl_username": "me", "kafka_sasl_password": "secret"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (LOGIN, "KAFKA_SASL_USERNAME"),
        ({**LOGIN, "kafka_security_protocol": "SSL"}, "KAFKA_SASL_USERNAME"),
        ({"kafka_security_protocol": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "me"}, "KAFKA_SASL_PASSWORD"),
        ({"kafka_ssl_cafile": "ca.pem"}, "KAFKA_SSL_CAFILE"),
        ({**LOGIN, "kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_cafile": "ca.pem"}, "KAFKA_SSL_CAFILE"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": "key.pem"}, "KAFKA_SSL_KEYFILE"),
        ({"redis_ssl_cafile": "ca.pem"}, "REDIS_SSL_CAFILE"),
        ({"redis_url": "rediss://redis", "redis_ssl_keyfile": "key.pem"}, "REDIS_SSL_KEYFILE"),
    ],
)
def test_nothing_goes_in_the_clear_by_mistake(given, named):
    """A password or an authority without the protocol that uses it: whoever set it believes to be safe."""
    with pytest.raises(TagstreamError, match=f"^TAGSTREAM_{named} is not usable: ") as told:
        load_settings(**given)
    assert "secret" not in str(told.value)


def test_every_worker_has_a_name_of_its_own():
    assert str(os.getpid()) in load_settings().worker


def test_every_setting_says_what_it_is():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_readme_has_every_setting_and_no_other():
    named = set(re.findall(r"\| `TAGSTREAM_([A-Z_]+)`", README.read_text(encoding="utf-8")))
    assert {name.upper() for name in Settings.model_fields} <= named


@pytest.mark.parametrize("name", ["", "tracks.probabilities"])
def test_topics_that_are_not_four_are_refused(monkeypatch, name):
    monkeypatch.setenv("TAGSTREAM_TOPIC_TAGS", name)
    with pytest.raises(TagstreamError, match="four different names"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("DEVICE", "gpu", ""),
        ("HEARTBEAT_S", "2.7", "a third of TAGSTREAM_SESSION_TIMEOUT_S, 2.66667 s"),
    ],
)
def test_values_that_would_fail_later_are_refused_at_once(monkeypatch, name, value, says):
    monkeypatch.setenv(f"TAGSTREAM_{name}", value)
    with pytest.raises(TagstreamError, match=f"TAGSTREAM_{name} is not usable.*{says}"):
        load_settings()


def test_a_misspelt_variable_is_told():
    told = misspelt_variables({"TAGSTREAM_BATCHMAX": "3", "TAGSTREAM_LINGER_S": "1", "TAGSTREAM_CACHE_DIR": "x"})
    assert told == ["TAGSTREAM_BATCHMAX is no setting: did you mean TAGSTREAM_BATCH_MAX?"]
