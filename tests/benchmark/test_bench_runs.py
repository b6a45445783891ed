"""The benchmarks of our own worker work: outputs right, reports whole, mistakes told. No times."""

import pytest

from model.errors import ModelError
from ops.bench import run_report
from ops.bench.document import BLOCK, BLOCKS, PAGE, read_reports, with_measurements
from ops.bench.latency import run_latency
from ops.bench.model import Precision, run_model
from ops.bench.networks import Network
from ops.bench.peers import Wire
from ops.bench.stages import WAITED, by_place, run_stages
from ops.bench.worker import Plan, run_workers, scale_plans
from ops.errors import OpsError


def quiet(_title: str, _done: int, _total: int) -> None:
    """No progress is shown."""


@pytest.fixture
def on_services(services, monkeypatch):
    for variable, address in services.environment().items():
        monkeypatch.setenv(variable, address)


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.timeout(200)
def test_workers_of_both_lanes_decide_what_their_network_decides_outside_the_stream(on_services, tmp_path):
    plans = [Plan(Wire.JSON, Network.SERVED, 2, 2, 1_500, 1), Plan(Wire.ARROW, Network.CHEAP, 1, 2, 1_500, 1)]
    report = run_workers(plans, quiet)
    assert report["agree"] and len(report["runs"]) == 2
    for run in report["runs"]:
        assert run["agreement"]["tags"] > 1_500 and run["events_per_s"] > 0
        assert {"decode", "score", "encode", "send"} <= run["stages_us"].keys()
    assert len(run_report.worker_rows(report)) == 2
    assert run_report.save_workers(report, "worker", tmp_path).exists()


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.timeout(200)
def test_stages_tell_a_profile_or_why_there_is_none(on_services, tmp_path):
    report = run_stages(Plan(Wire.JSON, Network.CHEAP, 1, 2, 4_000, 1), quiet)
    assert report["agree"] and bool(report["samples"]) != bool(report["missing"])
    assert sum(report["profile_us"].values()) == pytest.approx(report["cpu_us_per_event"] if report["samples"] else 0)
    assert run_report.save_stages(report, tmp_path).exists()


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.timeout(200)
def test_latency_counts_from_the_time_an_event_is_due(on_services, tmp_path):
    report = run_latency(Network.CHEAP, [0.02], 1.0, 2_000, quiet)
    (load,) = report["loads"]
    assert report["agree"] and load["events"] > 0
    assert -1 <= load["p50_ms"] <= load["p99_ms"] <= load["p999_ms"] <= load["max_ms"]  # the broker's ms are whole
    assert run_report.save_latency(report, tmp_path).exists()


def test_a_network_is_measured_at_each_precision_and_held_to_float32(tmp_path):
    report = run_model([Network.CHEAP], [1, 64], "cpu", [Precision.FP32, Precision.BF16], 1, quiet)
    assert [(speed["precision"], speed["batch"]) for speed in report["speeds"]] == [
        ("fp32", 1), ("fp32", 64), ("bf16", 1), ("bf16", 64)
    ]  # fmt: skip
    assert report["agreement"]["cheap-fp32"]["differing"] == 0
    assert report["minutes_for_100_million"]["cheap"] == pytest.approx(
        100e6 / 60 / report["best_tracks_per_s"]["cheap"]
    )
    assert run_report.save_model(report, tmp_path).exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: run_model([Network.CHEAP], [0], "cpu", [Precision.FP32], 1, quiet), "a batch of 0 tracks is not"),
        (lambda: run_model([Network.CHEAP], [1], "gpu", [Precision.FP32], 1, quiet), "'gpu' is not a device"),
        (lambda: run_latency(Network.CHEAP, [1.5], 1, 1_000, quiet), "a load of 1.5 is none"),
        (lambda: run_stages(Plan(Wire.JSON, Network.CHEAP, 2, 2, 1_000, 1), quiet), "not of 2"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(wrong, told):
    with pytest.raises((OpsError, ModelError), match=told):
        wrong()


def test_samples_count_for_the_innermost_frame_that_is_known():
    lines = [
        "main (x.py:1);_decode (streamer/pipeline.py:9);loads (json/decoder.py:3) 5",
        "main (x.py:1);_decode (streamer/pipeline.py:12) 2",
        "main (x.py:1);poll (elsewhere/y.py:2) 4",
        "main (x.py:1);_run_once (asyncio/base_events.py:5);select (selectors.py:468) 3",
        "not a line",
    ]
    assert by_place(lines) == {"streamer/pipeline.py: _decode": 7, "elsewhere/y.py: poll": 4, WAITED: 3}


def test_scale_keeps_all_but_workers_and_partitions():
    plan = Plan(Wire.JSON, Network.CHEAP, 1, 1, 1_000, 1)
    assert [(one.workers, one.partitions) for one in scale_plans(plan)] == [(1, 1), (2, 2), (4, 4)]


def test_the_page_has_what_the_reports_say():
    text = PAGE.read_text(encoding="utf-8")
    assert {name for _, name, _ in BLOCK.findall(text)} == set(BLOCKS)
    assert text == with_measurements(text, read_reports()), "run `python -m ops.bench.document`"
    without = with_measurements(text, {})
    assert without.count("Not measured yet: `make bench-record`") == len(BLOCKS)
    assert all(f"<!-- bench: {name} -->" in without for name in BLOCKS)
