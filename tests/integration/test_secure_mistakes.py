"""What a person gets wrong about logins and TLS: one sentence that names the setting, a non-zero exit, no hammering."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from model.artifact import fixed_network, new_artifact
from model.registry import Registry
from tests.fixtures_secure import Command, Secure
from tests.harness import a_vocabulary
from tests.model_data import SMALL, make_dataset, write_dataset
from tests.secure_redis import Front
from tests.secure_services import HOST

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

MOST_CONNECTIONS = 3  # of one command
NOT_SET = None

# What to set (None: leave it out), by which port to go, and what is said. {name} is a file of the certificates.
KAFKA = {
    "wrong password": ({"kafka_sasl_password": "guess"}, "scram", r"login of 'ops' \(.*KAFKA_SASL_USERNAME.*PASSWORD"),
    "unknown user": ({"kafka_sasl_username": "stranger"}, "scram", "login of 'stranger'"),
    "another mechanism": ({"kafka_sasl_mechanism": "PLAIN"}, "scram", "TAGSTREAM_KAFKA_SASL_MECHANISM"),
    "foreign authority": ({"kafka_ssl_cafile": "{foreign_ca}"}, "scram", "do not trust .*TAGSTREAM_KAFKA_SSL_CAFILE"),
    "expired certificate": ({}, "expired", "its certificate has expired .*TAGSTREAM_KAFKA_SSL_CAFILE"),
    "another host": ({}, "other_host", "its certificate is for another name .*TAGSTREAM_KAFKA_SSL_CAFILE"),
    "plaintext to TLS": (
        {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_cafile": NOT_SET}, "scram",
        "hangs up.*SASL_PLAINTEXT.*TAGSTREAM_KAFKA_SECURITY_PROTOCOL",
    ),
    "TLS to plaintext": ({}, "plain", "TAGSTREAM_KAFKA_SECURITY_PROTOCOL"),
    "no certificate": (
        {"kafka_security_protocol": "SSL", "kafka_sasl_username": NOT_SET, "kafka_sasl_password": NOT_SET}, "mtls",
        "wants a client certificate: set TAGSTREAM_KAFKA_SSL_CERTFILE",
    ),
    "foreign certificate": (
        {"kafka_security_protocol": "SSL", "kafka_sasl_username": NOT_SET, "kafka_sasl_password": NOT_SET,
         "kafka_ssl_certfile": "{foreign_client}"}, "mtls", "refuses the certificate TAGSTREAM_KAFKA_SSL_CERTFILE",
    ),
    "expired client certificate": (
        {"kafka_security_protocol": "SSL", "kafka_sasl_username": NOT_SET, "kafka_sasl_password": NOT_SET,
         "kafka_ssl_certfile": "{expired_client}"}, "mtls", "refuses the certificate TAGSTREAM_KAFKA_SSL_CERTFILE",
    ),
    "no such file": ({"kafka_ssl_cafile": "nowhere.pem"}, "scram", "TAGSTREAM_KAFKA_SSL_CAFILE=nowhere.pem"),
    "password without TLS": ({"kafka_security_protocol": "PLAINTEXT"}, "scram", "TAGSTREAM_KAFKA_SASL_USERNAME is not"),
}  # fmt: skip

REDIS = {  # the scheme, the login, the authority's file, the port, what is said
    "wrong password": ("rediss", "ops:guess@", "ca", "redis", "login of 'ops' .*TAGSTREAM_REDIS_URL"),
    "unknown user": ("rediss", "stranger:x@", "ca", "redis", "login of 'stranger' .*TAGSTREAM_REDIS_URL"),
    "no login": ("rediss", "", "ca", "redis", "login of 'default' .*TAGSTREAM_REDIS_URL"),
    "foreign authority": ("rediss", "ops:x@", "foreign_ca", "redis", "do not trust .*TAGSTREAM_REDIS_SSL_CAFILE"),
    "expired certificate": ("rediss", "ops:x@", "ca", "expired", "has expired .*TAGSTREAM_REDIS_SSL_CAFILE"),
    "another host": ("rediss", "ops:x@", "ca", "other_host", "for another name .*TAGSTREAM_REDIS_SSL_CAFILE"),
    "plaintext to TLS": ("redis", "ops:x@", "", "redis", "does it want TLS, rediss://"),
    "TLS to plaintext": ("rediss", "ops:x@", "ca", "plain_redis", "does it speak TLS at that port"),
}


@pytest.fixture(scope="module")
def ports(secure: Secure, services) -> Iterator[dict[str, Front]]:
    """Ways to the servers that count who comes; two of them have a certificate that nobody should take."""
    made = {
        "scram": Front(secure.broker.port),
        "mtls": Front(secure.broker.mtls_port),
        "redis": Front(secure.redis.tls_port),
        "plain": Front(int(services.kafka_bootstrap.rpartition(":")[2])),
        "plain_redis": Front(int(re.search(r":(\d+)/", services.redis_url)[1])),
        "expired": Front(secure.broker.port, secure.certificates.expired),
        "other_host": Front(secure.broker.port, secure.certificates.other_host),
    }
    yield made
    for front in made.values():
        front.close()


def assert_one_sentence(ended, words: str) -> None:
    assert ended.code == 1 and ended.out == "", ended
    assert re.search(words, ended.err), ended.err
    assert "Traceback" not in ended.err and len(ended.err.strip().splitlines()) == 1 and len(ended.err) < 400, ended.err
    assert "secret" not in ended.err and "guess" not in ended.err, ended.err


@pytest.mark.parametrize("mistake", KAFKA)
def test_a_mistake_about_kafka(secure: Secure, ports: Mapping[str, Front], command: Command, mistake: str):
    given, port, words = KAFKA[mistake]
    front = ports[port]
    files = {name: path for name, path in vars(secure.certificates).items() if isinstance(path, Path)}
    told = {name: value.format(**files) if isinstance(value, str) else value for name, value in given.items()}
    settings = secure.broker.scram("ops") | {"kafka_bootstrap": f"{HOST}:{front.port}"} | told
    before = front.came
    ended = command({name: value for name, value in settings.items() if value is not None}, "topics", "check")
    assert_one_sentence(ended, words)
    assert front.came - before <= MOST_CONNECTIONS, f"{front.came - before} connections"


@pytest.mark.parametrize("mistake", REDIS)
def test_a_mistake_about_redis(secure: Secure, ports: Mapping[str, Front], command: Command, desk, mistake: str):
    scheme, login, ca, port, words = REDIS[mistake]
    front = ports[port]
    secure.redis.let_in("ops", "nobody:")
    settings = {"redis_url": f"{scheme}://{login}{HOST}:{front.port}/0", "models_dir": desk}
    if ca:
        settings["redis_ssl_cafile"] = getattr(secure.certificates, ca)
    before = front.came
    assert_one_sentence(command(settings, "thresholds", "show"), words)
    assert front.came - before <= MOST_CONNECTIONS, f"{front.came - before} connections"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a champion."""
    folder, words = tmp_path_factory.mktemp("models"), a_vocabulary()
    Registry(folder).set_alias(
        "champion", new_artifact(fixed_network(words), words, dict.fromkeys(words.tags, 0.5), folder), "test", "first"
    )
    return folder


def test_the_trainer_needs_neither_kafka_nor_redis(ports, command: Command, tmp_path: Path, secure: Secure):
    """Both are named, and neither is gone to: its rights are those on its folders."""
    write_dataset(tmp_path / "data", make_dataset(150, SMALL))
    quick = tmp_path / "quick.toml"
    quick.write_text('base = "linear"\nepochs = 1\nfolds = 2\n')
    settings = secure.scram("trainer") | {"models_dir": tmp_path / "models"}
    settings |= {"kafka_bootstrap": f"{HOST}:{ports['scram'].port}"}
    settings |= {"redis_url": f"rediss://trainer:x@{HOST}:{ports['redis'].port}/0"}
    before = {name: front.came for name, front in ports.items()}
    ended = command(settings, "train", "--data", tmp_path / "data", "--config", quick, "--alias", "challenger")
    assert ended.code == 0 and "Traceback" not in ended.err, ended
    assert {name: front.came for name, front in ports.items()} == before
