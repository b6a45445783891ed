"""The doctor's judgements that no healthy machine shows."""

from importlib.metadata import PackageNotFoundError

import pytest

from ops.doctor import machine
from ops.doctor.clinic import is_healthy
from ops.doctor.finding import State, fail, warn
from ops.doctor.kafka import copies_findings, topic_findings
from ops.doctor.machine import check_disks, check_environment, check_packages, check_python, check_torch
from ops.doctor.redis import clock_finding
from streamer.adapters.kafka_topic_contract import Topic, plan_topics
from streamer.settings import Settings, load_settings


def topics(settings: Settings, replication: int, **changed: str) -> dict[str, Topic]:
    return {
        plan.name: Topic(plan.name, 4, replication, {**plan.config, **changed})
        for plan in plan_topics(settings, replication)
    }


def partition(isr: int, replicas: int = 3, leader: int = 1) -> dict[str, object]:
    return {"partition": 2, "leader": leader, "isr": list(range(isr)), "replicas": list(range(replicas))}


@pytest.mark.parametrize(
    ("place", "state", "words"),
    [
        (partition(3), None, ""),
        (partition(2), State.WARN, "behind"),
        (partition(1), State.FAIL, "nothing is acknowledged"),
        (partition(3, leader=-1), State.FAIL, "no leader for partitions 2"),
    ],
)
def test_copies(place, state, words):
    settings = load_settings()
    mine = {settings.topic_tags: topics(settings, 3)[settings.topic_tags]}
    found = list(copies_findings(mine, [{"topic": settings.topic_tags, "partitions": [place]}]))
    assert [f.state for f in found] == ([state] if state else [])
    assert all(words in f.what and "brokers" in f.remedy for f in found)


def test_topics():
    settings = load_settings()
    (well,) = topic_findings(settings, topics(settings, 3), 3)
    assert well.state is State.OK
    lone = list(topic_findings(settings, topics(settings, 1), 3))
    assert sum("one copy on 3 brokers" in f.what for f in lone if f.state is State.WARN) == 4
    cut = list(topic_findings(settings, topics(settings, 3, **{"retention.bytes": "1000"}), 3))
    assert sum("is cut at 1,000 bytes" in f.what for f in cut) == 2
    unsafe = list(topic_findings(settings, topics(settings, 3, **{"min.insync.replicas": "1"}), 3))
    assert any("min.insync.replicas=2" in f.remedy for f in unsafe)
    missing = list(topic_findings(settings, {}, 3))
    assert len(missing) == 4 and all(f.state is State.FAIL and "topics create" in f.remedy for f in missing)


@pytest.mark.parametrize(
    ("skew_s", "uncertain_s", "state"),
    [(0.2, 0.01, State.OK), (-1.5, 1.0, State.OK), (-1.5, 0.1, State.WARN), (40, 0.1, State.FAIL)],
)
def test_clocks(skew_s, uncertain_s, state):
    found = clock_finding(skew_s, uncertain_s)
    assert found.state is state and ("ahead" if skew_s > 0 else "behind") in found.what


def test_the_machine(tmp_path):
    assert check_python((3, 10, 4)).state is State.FAIL and check_python((3, 12, 0)).state is State.OK
    old, missing = check_packages(["aiokafka>=99", "no-such-package>=1", 'torch>=99; sys_platform == "nowhere"'])
    assert "aiokafka is" in old.what and "no-such-package is not installed" in missing.what
    (misspelt,) = check_environment({"TAGSTREAM_KAFKA_BOOTSTRP": "x", "HOME": "/"})
    assert misspelt.state is State.WARN and "TAGSTREAM_KAFKA_BOOTSTRAP" in misspelt.what
    (tmp_path / "file").touch()
    found = list(check_disks(load_settings(state_dir=tmp_path / "file" / "state", models_dir=tmp_path)))
    assert found[0].state is State.FAIL and "TAGSTREAM_STATE_DIR" in found[0].remedy


def test_an_image_may_lack_what_only_the_local_kafka_needs(monkeypatch: pytest.MonkeyPatch):
    known = machine.version

    def in_an_image(name: str) -> str:
        if name in machine.ONLY_LOCAL:
            raise PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(machine, "version", in_an_image)
    left_out, rest = check_packages()
    assert left_out.state is State.SKIP and "jgo" in left_out.what and rest.state is State.OK


def test_a_gpu_that_is_not_there():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    *_, found = check_torch("cuda:0")
    assert found.state is State.FAIL and "TAGSTREAM_DEVICE is cuda:0" in found.what


def test_warnings_are_no_illness():
    assert is_healthy([warn("a", "b", "c")]) and not is_healthy([warn("a", "b", "c"), fail("a", "b", "c")])
