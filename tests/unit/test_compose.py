"""What must hold of docker-compose.yml beyond its form: walls, order, and that it fits what it runs.

Its form is checked by `make lint`, and that it works by `make compose-test`, which needs an engine and minutes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.local.jars import load_jar_list
from ops.security_docs import USERS, acl_template
from streamer.agents import STOP_BY_FORCE_S
from streamer.settings import OTHER_VARIABLES, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
DOCKERFILE = (ROOT / "ops" / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("tagstream:")]
LASTING = [name for name, service in SERVICES.items() if "restart" in service]
PREFIX = "TAGSTREAM_"
UNITS_S = {"s": 1, "m": 60}

each_service = pytest.mark.parametrize("name", SERVICES)


def seconds(text: str) -> float:
    return float(text[:-1]) * UNITS_S[text[-1]]


def as_by_default(name: str, what: str) -> list[str]:
    """A list of a service as it is where no variable is set."""
    return [re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", one) for one in SERVICES[name].get(what, [])]


def mounts(name: str) -> Iterator[tuple[str, str]]:
    """Source and target of each volume of a service."""
    for mount in as_by_default(name, "volumes"):
        source, target = mount.removesuffix(":ro").split(":")
        yield source, target


def test_what_the_issue_asks_for_is_there():
    assert set(SERVICES) == {
        "kafka", "redis", "topics", "worker", "console", "trainer", "cli", "prometheus", "grafana",
    }  # fmt: skip
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert SERVICES["trainer"]["profiles"] == ["trainer"] and SERVICES["trainer"]["network_mode"] == "none"


@each_service
def test_every_container_stands_inside_walls(name: str):
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"] and not service.get("privileged")
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)
    assert service["logging"]["options"]["max-size"]
    if name in OURS:
        assert "user" not in service and re.search(r"^USER [1-9]\d*:\d+$", DOCKERFILE, re.MULTILINE)
    else:
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
        assert re.search(r":v?\d+\.\d+", service["image"]), "no image without its version"


def test_only_console_and_grafana_are_published_and_only_here():
    doors = {name: as_by_default(name, "ports") for name, service in SERVICES.items() if "ports" in service}
    assert set(doors) == {"console", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in doors.values() for port in ports)
    behind = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    for name, service in SERVICES.items():
        if name not in doors:
            assert service.get("network_mode") == "none" or set(service["networks"]) <= behind, name


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_says_how_it_is(name: str):
    if name != "worker":  # its check is the image's
        check = SERVICES[name]["healthcheck"]
        assert check["test"][0] == "CMD" and not any(" " in word for word in check["test"])
        assert seconds(check["timeout"]) < seconds(check["interval"])


def test_the_image_s_check_asks_a_page_of_the_worker():
    check = re.search(r"HEALTHCHECK .*\\\n\s+CMD (.+)", DOCKERFILE)
    assert check and '"http://127.0.0.1:9464/health/live"' in check[1] and "METRICS_PORT=9464" in DOCKERFILE
    assert "http://127.0.0.1:8470/login" in SERVICES["console"]["healthcheck"]["test"]
    assert as_by_default("console", "ports") == [f"127.0.0.1:{Settings().console_port}:{Settings().console_port}"]


def test_the_image_has_the_versions_that_are_tested():
    before = DOCKERFILE.partition("pip install")[0]
    assert "PIP_CONSTRAINT=/src/constraints.txt" in before and "constraints.txt ./" in before
    assert len(set(re.findall(r"^FROM (python:\S+)", DOCKERFILE, re.MULTILINE))) == 1, "one Python builds and runs"
    assert re.search(r"^FROM runtime AS cpu$", DOCKERFILE, re.MULTILINE), "the last target is what is built unasked"


def test_the_order_is_kafka_topics_workers():
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for name in ("worker", "console"):
        assert SERVICES[name]["depends_on"] == {
            "topics": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > STOP_BY_FORCE_S


@each_service
def test_secrets_come_as_files(name: str):
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|TOKEN|SECRET|USERS$|REDIS_URL", variable) and not variable.endswith("_SIGN_UP"):
            assert variable.endswith("_FILE"), variable
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    made = set(re.findall(r'"\$folder/(\w+)"', (ROOT / "ops" / "compose" / "secrets.sh").read_text()))
    for_containers = {str(secret["file"]).rpartition("/")[2] for secret in COMPOSE["secrets"].values()}
    assert for_containers == made - {"redis_admin_url"}
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


@pytest.mark.parametrize("name", OURS)
def test_every_setting_and_command_is_one_that_there_is(name: str):
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields} | OTHER_VARIABLES
    ours = {variable for variable in SERVICES[name].get("environment", {}) if variable.startswith(PREFIX)}
    assert ours <= known
    assert set(re.findall(rf"\b({PREFIX}\w+)=", DOCKERFILE)) <= known
    threads = SERVICES[name].get("environment", {}).get("OMP_NUM_THREADS")
    if threads is not None:
        assert threads == SERVICES[name]["deploy"]["resources"]["limits"]["cpus"]


@each_service
def test_what_is_written_is_in_a_volume(name: str):
    for source, target in mounts(name):
        assert source in COMPOSE["volumes"] or (ROOT / source).exists(), f"{source} of {name} is not there"
        if name in OURS:
            made = re.search(r"mkdir ((?:/\w+ )+)&& chown", DOCKERFILE)
            assert made and target in made[1].split(), f"{target} would belong to root"


def test_kafka_is_the_one_that_the_tests_run():
    image = SERVICES["kafka"]["image"]
    assert image == f"apache/kafka:{load_jar_list().kafka_version}"
    environment = SERVICES["kafka"]["environment"]
    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert int(environment["KAFKA_MESSAGE_MAX_BYTES"]) > 10 * 2**20, "dead letters take 10 MiB"


def test_redis_keeps_what_it_is_given_and_knows_its_users():
    command = SERVICES["redis"]["command"]
    given = dict(zip(command[1::2], command[2::2], strict=True))
    assert given["--appendonly"] == "yes" and given["--maxmemory-policy"] == "noeviction"
    assert given["--aclfile"] == "/run/secrets/redis_acl"
    assert USERS.read_text() == acl_template(), "run `python -m ops.security_docs`"


def test_prometheus_and_grafana_find_what_they_are_given():
    scraped = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    (found,) = scraped["dns_sd_configs"]
    assert found["names"] == ["worker"] and found["port"] == 9464
    provisioning = ROOT / "ops" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "tagstream.yml").read_text())["providers"]
    assert ("./ops/grafana/dashboards", provider["options"]["path"]) in set(mounts("grafana"))
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    assert set(SERVICES["prometheus"]["networks"]) & set(SERVICES["worker"]["networks"])


def test_the_gpu_s_override_is_of_services_that_compute():
    assert set(GPU["services"]) == {"worker", "trainer"} <= set(SERVICES)
    for service in GPU["services"].values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
        assert service["build"]["target"] == "cuda" and service["environment"]["TAGSTREAM_DEVICE"] == "cuda"
    assert re.search(r"^FROM \S+ AS cuda$", DOCKERFILE, re.MULTILINE)
