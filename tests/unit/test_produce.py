"""Events as they are produced: JSON of a row, lines as they are, splits, and a schedule that does not drift."""

import time

import numpy as np
import orjson
import pytest

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


async def test_a_late_event_does_not_delay_those_after_it():
    events = [(None, b"x", ())] * 40
    started = time.perf_counter()
    async for index, _ in _counted(_on_schedule(events, rate_per_s=200)):
        if index == 5:
            time.sleep(0.1)
    elapsed_s = time.perf_counter() - started
    assert elapsed_s >= 39 / 200
    assert elapsed_s < 39 / 200 + 0.09  # the stall was made up for


async def _counted(events):
    index = 0
    async for event in events:
        yield index, event
        index += 1
