"""The last good model and table on disk: what is read back, from whom, and what is not believed."""

import json

import pytest

from streamer.adapters.state_store import MAX_STATE_BYTES, StateStore
from streamer.serving import LastGood

STATE = LastGood("20261122T094500Z-1a2b3c4d", '{"élan":"0.500000"}', True, 2000.5)


def test_what_was_saved_is_read_back(tmp_path):
    store = StateStore(tmp_path / "state", "host-1")
    assert store.newest() is None
    store.save(STATE)
    assert store.newest() == STATE
    later = LastGood(STATE.model, "{}", False, 3000)
    store.save(later)
    assert store.newest() == later and [path.name for path in (tmp_path / "state").iterdir()] == ["host-1.json"]


def test_the_newest_of_all_workers(tmp_path):
    for age, worker in enumerate(("a", "b", "c")):
        StateStore(tmp_path, worker).save(LastGood("m", worker, True, 10.0 - age))
    newest = StateStore(tmp_path, "c").newest()
    assert newest is not None and newest.canonical == "a"


def test_another_streams_files_and_older_ones(tmp_path):
    StateStore(tmp_path, "a", "tracks group-1").save(STATE)
    assert StateStore(tmp_path, "b", "tracks group-2").newest() is None
    assert StateStore(tmp_path, "b", "tracks group-1").newest() == STATE
    older = {"model": "m", "canonical": "{}", "entered": True, "saved_at_ms": 1}
    (tmp_path / "a.json").write_text(json.dumps(older))
    assert StateStore(tmp_path, "b", "tracks group-2").newest() == LastGood("m", "{}", True, 1)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"17", b"null", b'{"model": "m"}', b"\xff", b"[" * 100_000, b" " * (MAX_STATE_BYTES + 1),
     json.dumps({"model": "m", "canonical": "{}", "entered": True, "saved_at_ms": 1, "more": 1}).encode(),
     json.dumps({"model": "m", "canonical": "{}", "entered": True, "saved_at_ms": "soon"}).encode(),
     json.dumps({"model": 3, "canonical": "{}", "entered": True, "saved_at_ms": 9e9}).encode(),
     json.dumps({"model": "m", "canonical": None, "entered": True, "saved_at_ms": 9e9}).encode()],
)  # fmt: skip
def test_files_that_are_not_states_are_passed_over(tmp_path, content, caplog):
    StateStore(tmp_path, "good").save(STATE)
    (tmp_path / "bad.json").write_bytes(content)
    assert StateStore(tmp_path, "good").newest() == STATE


def test_half_written_files_are_not_read(tmp_path):
    (tmp_path / "host-1.json.part").write_text(json.dumps({"model": "m", "canonical": "{}", "entered": True}))
    assert StateStore(tmp_path, "host-1").newest() is None


@pytest.mark.parametrize("worker", ["../../etc/passwd", "a/b", "..", "", "host.example.org-17", "wörker 1"])
def test_a_workers_name_never_leads_out_of_the_folder(tmp_path, worker):
    store = StateStore(tmp_path / "state", worker)
    store.save(STATE)
    assert store.newest() == STATE
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "state"]


def test_a_file_where_the_folder_should_be_is_said(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(OSError):
        StateStore(tmp_path / "state", "w").save(STATE)
    assert StateStore(tmp_path / "state", "w").newest() is None
