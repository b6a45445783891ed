"""What the console shows, by itself: how the system stands, why a tag was given, where a threshold is drawn."""

import math

import numpy as np
import pytest

from model.curves import trace
from ops.console import pictures
from ops.console.render import Renderer, ago, count, ms, per_s, points, share, size, threshold
from ops.console.standing import KafkaState, Now, RedisState, TopicState, Worker
from ops.track_reasons import Why, explain
from streamer.core.layout import Layout
from streamer.core.thresholds import ThresholdTable

BEAT = {
    "model": "m", "thresholds": "aaa", "partitions": "0,1", "lag_records": "3", "tracks_per_s": "40",
    "latency_p50_ms": "11.5", "latency_p99_ms": "80.0", "obeyed_at_ms": "1000.0",
}  # fmt: skip


def now(*workers: Worker, at_ms: float = 100_000.0, **more) -> Now:
    redis = RedisState(asked=True, model="m", thresholds="aaa", written_at_ms=1000.0, workers=workers)
    kafka = KafkaState(asked=True, brokers=1, lag={0: 5, 1: 7}, dead_letters=2, **more)
    return Now(at_ms, redis, kafka)


def problems(seen: Now) -> str:
    return " | ".join(f"{one.level}: {one.what} {one.remedy}" for one in seen.problems())


def test_all_is_well_and_nothing_is_said():
    seen = now(Worker.read("a", BEAT), Worker.read("b", {**BEAT, "partitions": "", "latency_p99_ms": "120"}))
    assert seen.problems() == []
    assert (seen.tracks_per_s, seen.kafka.lag_records, seen.p50_ms, seen.p99_ms) == (80, 12, 11.5, 120)
    assert [worker.state for worker in seen.workers] == ["ready", "no partitions"] and seen.ready == 1
    assert math.isclose(seen.catches_up_s() or 0, 12 / 80)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"paused": "a surge"}, "bad: a is paused: a surge"),
        ({"stalled": "partition 1 waits"}, "bad: a makes no progress: partition 1 waits"),
        ({"refusal": "no tag x"}, "bad: a refuses the live table: no tag x"),
        ({"model_failure": "checksum"}, "bad: a keeps its model: checksum"),
        ({"thresholds": "old"}, "note: a decides by old, not by aaa."),
        ({"partitions": "0"}, "note: No worker has partition 1 now."),
    ],
)
def test_what_a_worker_lacks_is_said_with_a_remedy(change, said):
    told = problems(now(Worker.read("a", {**BEAT, **change})))
    assert said in told and len(told) > len(said) + 5


def test_a_worker_has_a_moment_to_follow_before_it_is_told_about():
    late = Worker.read("a", {**BEAT, "thresholds": "old"})
    assert now(late, at_ms=2000.0).problems() == []


def test_services_that_are_away_and_topics_that_lack_something():
    down = Now(0.0, RedisState(error="Redis is away.", asked=True), KafkaState(error="Kafka is away.", asked=True))
    assert down.tracks_per_s is None and down.kafka.lag_records is None
    assert "bad: Redis is away." in problems(down) and "bad: Kafka is away." in problems(down)
    topics = (TopicState("in", "events", 4, 10, 3, 2), TopicState("out", "decisions", 0, 0, 0, 0, missing=True))
    told = problems(now(Worker.read("a", BEAT), topics=topics))
    assert told.startswith("bad: Kafka has no topic out.") and "2 of 4 partitions of in lack copies" in told
    assert "No worker is running. 12 records wait." in problems(now())


def test_a_heartbeat_of_another_age_is_read_as_far_as_it_goes():
    worker = Worker.read("a", {"partitions": "0,x,", "lag_records": "many", "latency_p50_ms": ""})
    assert (worker.partitions, worker.lag_records, worker.p50_ms, worker.state) == ((0,), 0, None, "no model")


LAYOUT = Layout.build("v", {"genres": {"tags": ["rock", "jazz", "pop"]}, "moods": {"tags": ["calm", "wild"]}})


def test_near_misses_come_first_then_the_closest_calls_then_the_rest():
    table = ThresholdTable.build(
        LAYOUT.tags, {"rock": "0.5", "jazz": "0.5", "pop": "0.2", "calm": "0.4", "wild": "off"}, {}
    )
    live = ThresholdTable.build(LAYOUT.tags, {**table.as_hash(), "rock": "0.4", "pop": "off"}, {})
    scores = np.array([0.47, 0.49, 0.9, 0.41, 0.99], np.float16)
    reasons = explain(LAYOUT, scores, table, live, np.arange(5) / 10)
    assert [(one.tag, one.why) for one in reasons] == [
        ("jazz", Why.NEAR), ("rock", Why.NEAR), ("calm", Why.DECIDED), ("pop", Why.DECIDED), ("wild", Why.OFF),
    ]  # fmt: skip
    assert {one.tag for one in reasons if one.changes} == {"rock", "pop"}
    assert [one.probability for one in reasons if one.tag == "pop"] == [0.2]
    assert reasons[0].class_name == "genres" and reasons[-1].class_name == "moods"


def test_a_score_that_just_reaches_its_threshold_is_decided_as_the_worker_decides():
    table = ThresholdTable.build(("rock",), {"rock": "0.333008"}, {})
    layout = Layout.build("v", {"genres": {"tags": ["rock"]}})
    for score, why in ((np.float16(1 / 3), Why.DECIDED), (np.nextafter(np.float16(1 / 3), np.float16(0)), Why.NEAR)):
        (reason,) = explain(layout, np.array([score]), table, None, None)
        assert reason.why is why and reason.live is None and not reason.changes


def test_the_slider_goes_from_0_to_1_and_back():
    assert [pictures.threshold_at(place) for place in (0, pictures.PLACES)] == [0.0, 1.0]
    values = [pictures.threshold_at(place) for place in range(pictures.PLACES + 1)]
    assert values == sorted(values) and len(set(values)) > 900, "hardly two places mean the same"
    for value in (0.001, 0.02, 0.184213, 0.5, 0.97):
        assert math.isclose(pictures.threshold_at(round(pictures.place(value))), value, rel_tol=0.02)
    assert pictures.place(0.0) == 0 and pictures.place(1.0) == pictures.PLACES


def test_bars_are_cut_where_the_threshold_lies():
    ends = pictures.edges().tolist()
    counts = [5] * pictures.BINS
    within = (ends[40] + ends[41]) / 2
    drawn = pictures.bars(counts, ends, within)
    assert len(drawn) == pictures.BINS + 1
    assert max(bar.x for bar in drawn if not bar.decided) < pictures.place(within) + 1e-9
    assert min(bar.x for bar in drawn if bar.decided) == pictures.place(within)
    assert not any(bar.decided for bar in pictures.bars(counts, ends, math.inf)), "off decides nothing"
    assert all(bar.decided for bar in pictures.bars(counts, ends, 0.0))


def test_curves_are_drawn_from_the_artefacts_counts():
    scores = np.linspace(0.001, 0.999, 500)
    paths = pictures.rate_paths(trace(scores, scores > 0.5, 0.5))
    first, *_, last = paths["recall"].removeprefix("M").split("L")
    top, bottom = float(first.split(",")[1]), float(last.split(",")[1])
    assert top == 0.0 and bottom > 0.99 * pictures.RATES_HEIGHT, "recall falls from 1 to 0"


def test_a_line_keeps_its_peak_when_it_has_more_points_than_room():
    series = [(index / 1000, 1.0) for index in range(1000)]
    series[501] = (0.501, 50.0)
    drawn = pictures.spark(series)
    assert drawn is not None and drawn.top == 50.0 and drawn.line.count("L") < 130
    assert pictures.spark(series[:1]) is None


def test_figures_have_units_and_what_is_not_known_is_a_dash():
    assert [count(None), share(None), ms(""), per_s(None), size(None), ago(None)] == ["–"] * 6
    assert [count(1234567), share(0.0312), share(0.00041), points(-0.005)] == [
        "1,234,567",
        "3.1 %",
        "0.04 %",
        "-0.50 pp",
    ]
    assert [ms(3.21), ms("120.4"), ms(45_000), per_s(0.4), per_s(1234)] == ["3.2 ms", "120 ms", "45 s", "0.4", "1,234"]
    assert [size(512), size(1536), threshold("0.184213"), threshold("0.500000"), threshold("off")] == [
        "512 B", "1.5 KiB", "0.184213", "0.500", "off",
    ]  # fmt: skip
    assert 'title="1970-01-01 00:00:01.500 UTC"' in ago(1500)


def test_whatever_is_put_into_a_page_is_text():
    shown = Renderer().text(
        "login.html", {"theme": "", "following": '"><script>1</script>', "error": "a\x1b[2J<b>\u202e"}
    )
    assert "<script>1" not in shown and "<b>" not in shown and "\x1b" not in shown and "\u202e" not in shown
    assert "&lt;b&gt;" in shown and "\\x1b" in shown
