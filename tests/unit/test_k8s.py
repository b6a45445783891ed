"""What must hold of ops/k8s beyond its form, which `make kubernetes` checks: that it fits the worker it runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.agents import STOP_BY_FORCE_S
from streamer.settings import Settings

FOLDER = Path(__file__).parents[2] / "ops" / "k8s"
BASE = FOLDER / "base"
PREFIX = "TAGSTREAM_"


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The documents of a file, by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text())}


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """Everything that the base lists, by kind."""
    listed = read(BASE / "kustomization.yaml")["Kustomization"]["resources"]
    found = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == found, "a file that kustomization.yaml does not name is never applied"
    return {kind: one for name in listed for kind, one in read(BASE / name).items()}


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return objects["Deployment"]["spec"]["template"]["spec"]


def literals(path: Path) -> dict[str, str]:
    (generator,) = read(path)["Kustomization"]["configMapGenerator"]
    return dict(line.split("=", 1) for line in generator["literals"])


def test_the_pods_have_longer_to_end_than_a_worker_takes(pod: dict[str, Any]):
    assert pod["terminationGracePeriodSeconds"] > STOP_BY_FORCE_S > Settings().drain_s


def test_each_probe_asks_a_page_that_the_worker_serves(pod: dict[str, Any]):
    (worker,) = pod["containers"]
    pages = {name: worker[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert pages == {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health"}
    (port,) = worker["ports"]
    assert str(port["containerPort"]) == literals(BASE / "kustomization.yaml")["TAGSTREAM_METRICS_PORT"]
    assert all(worker[name]["httpGet"]["port"] == port["name"] for name in pages)


def test_the_worker_runs_with_the_least_rights(pod: dict[str, Any]):
    (worker,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in worker["resources"]["limits"]


def test_everything_selects_the_workers(objects: dict[str, dict[str, Any]]):
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_it_scales_on_the_lag_of_the_workers_own_group(objects: dict[str, dict[str, Any]]):
    scaled = objects["ScaledObject"]["spec"]
    (trigger,) = scaled["triggers"]
    ours = Settings()
    assert scaled["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    assert "replicas" not in objects["Deployment"]["spec"], "an apply would undo what KEDA has set"
    assert trigger["metadata"]["consumerGroup"] == ours.group
    assert trigger["metadata"]["topic"] == ours.topic_probabilities
    said = literals(BASE / "kustomization.yaml")
    assert trigger["metadata"]["bootstrapServers"] == said["TAGSTREAM_KAFKA_BOOTSTRAP"]
    assert 2 <= scaled["minReplicaCount"] <= scaled["maxReplicaCount"]


@pytest.mark.parametrize("path", [BASE / "kustomization.yaml", FOLDER / "overlays" / "gpu" / "kustomization.yaml"])
def test_every_setting_is_one_that_the_worker_knows(path: Path):
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(literals(path)) <= known


def test_secrets_come_as_files_and_folders_are_mounted(pod: dict[str, Any]):
    (worker,) = pod["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in worker["volumeMounts"]}
    said = literals(BASE / "kustomization.yaml")
    assert not any("PASSWORD" in name or name.endswith("REDIS_URL") for name in said)
    for name in ("TAGSTREAM_MODELS_DIR", "TAGSTREAM_STATE_DIR"):
        assert said[name] in mounts
    assert str(Path(said["TAGSTREAM_REDIS_URL_FILE"]).parent) in mounts
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}


def test_the_gpu_overlay_asks_for_one():
    patch = read(FOLDER / "overlays" / "gpu" / "gpu.yaml")["Deployment"]
    (worker,) = patch["spec"]["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1 and worker["name"] == "worker"
    assert literals(FOLDER / "overlays" / "gpu" / "kustomization.yaml")["TAGSTREAM_DEVICE"] == "cuda"
