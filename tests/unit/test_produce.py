"""Events as they are produced: JSON of a row, lines as they are, splits, and a schedule that does not drift."""

from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from ops import kafka_io
from ops.cli.produce import choose_split, events_of_lines
from ops.errors import OpsError
from ops.kafka_io import _on_schedule, event_json
from streamer.core.layout import Layout

LAYOUT = Layout.build("0123456789ab", {"genres": {"tags": ["a", "b"], "categories": ["c"]}, "moods": {"tags": ["d"]}})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_event_carries_a_row_in_vocabulary_order(dtype):
    row = np.array([0.1, 0.2, 0.3, 0.4], dtype=dtype)  # tags of all classes, then categories
    event = orjson.loads(event_json(LAYOUT, "T-1", row))
    assert event["track_id"] == "T-1" and event["vocabulary"] == "0123456789ab"
    assert np.array(event["genres"]["tags"], dtype=dtype).tolist() == row[:2].tolist()
    assert np.array(event["moods"]["tags"], dtype=dtype).tolist() == row[2:3].tolist()
    assert np.array(event["genres"]["categories"], dtype=dtype).tolist() == row[3:].tolist()
    assert "instruments" not in event and "categories" not in event["moods"]


def test_lines_are_sent_as_they_are_and_keyed_where_they_can_be():
    lines = [b'{"track_id":"T-1", "x": 1}\n', b"not json\r\n", b"\n", b'{"track_id":7}\n', b"[1]\n", b'{"track_id":""}']
    assert list(events_of_lines(lines)) == [
        (b"T-1", b'{"track_id":"T-1", "x": 1}', ()),
        (None, b"not json\r", ()),
        (None, b'{"track_id":7}', ()),
        (None, b"[1]", ()),
        (None, b'{"track_id":""}', ()),
    ]


def test_split_is_val_where_there_is_one(tmp_path):
    assert choose_split(tmp_path, None) == tmp_path
    (tmp_path / "train").mkdir()
    assert choose_split(tmp_path, None) == tmp_path
    (tmp_path / "val").mkdir()
    assert choose_split(tmp_path, None) == tmp_path / "val"
    assert choose_split(tmp_path, "train") == tmp_path / "train"
    with pytest.raises(OpsError, match="no split 'test'"):
        choose_split(tmp_path, "test")


async def test_a_late_event_does_not_delay_those_after_it(monkeypatch):
    now_s, handed_out_s = 100.0, []

    async def sleep(seconds):
        nonlocal now_s
        now_s += seconds

    monkeypatch.setattr(kafka_io, "time", SimpleNamespace(perf_counter=lambda: now_s))
    monkeypatch.setattr(kafka_io, "asyncio", SimpleNamespace(sleep=sleep))
    async for _ in _on_schedule([(None, b"x", ())] * 40, rate_per_s=200):
        handed_out_s.append(now_s - 100.0)
        if len(handed_out_s) == 6:
            now_s += 0.1  # somebody takes his time with it
    due_s = [index / 200 for index in range(40)]
    assert handed_out_s[:6] == pytest.approx(due_s[:6])
    assert handed_out_s[6:25] == pytest.approx([0.125] * 19), "what is late goes out at once"
    assert handed_out_s[25:] == pytest.approx(due_s[25:])
