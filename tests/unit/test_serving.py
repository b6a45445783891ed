"""What is served: first use, edits, data loss, refusals. Models and starts are in test_serving_models.py."""

import asyncio
import logging

import pytest

from streamer.serving import LastGood, tuned_table
from tests.fakes import LAYOUT, MODEL, a_table
from tests.serving_desk import TUNED_HASH, Desk, remembered


async def test_nothing_is_served_before_the_first_refresh():
    control = Desk().control
    assert not control.ready
    with pytest.raises(RuntimeError, match="no model"):
        control.current()


async def test_first_use_writes_what_the_trainer_chose():
    desk = await Desk().started()
    assert desk.store.model == MODEL and desk.live == TUNED_HASH
    assert desk.store.tables[MODEL] == {desk.table.version: desk.table.canonical}
    assert desk.store.history == [("first use", "", desk.table.version)]
    assert desk.table.version == tuned_table(desk.model).version
    assert desk.control.swapped.is_set()
    status = desk.status
    assert (status.store_up, status.source, status.swaps, status.restored) == (True, "redis", 0, 0)
    assert status.obeyed_at_ms == desk.clock.wall_ms()
    assert desk.last_good.newest() == LastGood(
        MODEL, desk.table.canonical, True, desk.clock.wall_ms(), LAYOUT.fingerprint
    )


async def test_refreshing_again_changes_nothing():
    desk = await Desk().started()
    serving, saved = desk.control.current(), len(desk.last_good.states)
    for _ in range(3):
        await desk.control.refresh()
    assert desk.control.current() is serving and len(desk.last_good.states) == saved
    assert set(desk.store.calls) == {"active_model", "read"} and desk.loader.loads == [MODEL]


async def test_an_edit_made_outside_is_obeyed_entered_and_remembered():
    desk = await Desk().started()
    before = desk.table
    desk.control.swapped.clear()
    desk.clock.now_s += 5
    desk.live["rock"] = "0.9"
    await desk.control.refresh()
    assert desk.thresholds() == {**TUNED_HASH, "rock": "0.900000"}
    assert desk.store.history[-1] == ("outside-edit", before.version, desk.table.version)
    assert desk.table.version in desk.store.tables[MODEL]
    assert desk.control.swapped.is_set() and desk.status.swaps == 1
    assert desk.status.obeyed_at_ms == desk.clock.wall_ms()
    newest = desk.last_good.newest()
    assert newest is not None and newest.canonical == desk.table.canonical


async def test_the_table_is_entered_before_the_first_batch_under_it():
    desk = await Desk().started()
    adopt, versions = desk.store.adopt, []

    async def watched(*arguments):
        versions.append(desk.table.version)  # what a batch would be decided under just now
        await adopt(*arguments)

    before = desk.table.version
    desk.store.adopt = watched  # type: ignore[method-assign]
    desk.live["rock"] = "off"
    await desk.control.refresh()
    assert versions == [before] and desk.table.version != before


async def test_a_tag_missing_from_the_hash_means_its_tuned_threshold():
    desk = await Desk().started()
    desk.live["rock"] = "0.9"
    await desk.control.refresh()
    del desk.live["rock"]
    await desk.control.refresh()
    assert desk.thresholds() == TUNED_HASH and "rock" not in desk.live
    assert desk.status.restored == 0


async def test_everything_lost_is_restored_once_and_told(caplog):
    desk = await Desk().started()
    desk.live["rock"] = "0.9"
    await desk.control.refresh()
    good = desk.table
    desk.store.empty()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await desk.control.refresh()
    assert desk.table.version == good.version and desk.live == good.as_hash()
    assert desk.store.model == MODEL and desk.store.tables[MODEL] == {good.version: good.canonical}
    assert desk.store.history == [("restored after data loss", "", good.version)]
    assert desk.store.calls.count("restore") == 1
    assert "lost the thresholds" in caplog.text and desk.status.restored == 2, "the model's name and the table"


async def test_only_the_hash_lost():
    desk = await Desk().started()
    desk.live["rock"] = "0.9"
    await desk.control.refresh()
    good = desk.table
    del desk.store.live[MODEL]
    await desk.control.refresh()
    assert desk.live == good.as_hash() and desk.status.restored == 1
    assert desk.store.history[-1] == ("restored after data loss", "", good.version)


async def test_a_later_edit_wins_over_what_is_restored():
    """Redis came back empty and somebody edited one tag before any worker looked: the hash is there, `:tables` not."""
    desk = await Desk().started()
    desk.live["rock"], desk.live["calm"] = "0.9", "off"
    await desk.control.refresh()
    good = desk.table
    desk.store.empty()
    desk.store.model = MODEL
    desk.store.live[MODEL] = {"rock": "0.1"}
    await desk.control.refresh()
    assert desk.thresholds() == {"rock": "0.100000", "jazz": "0.250000", "calm": "off"}, "no other override reverts"
    assert desk.status.restored == 1
    assert set(desk.store.tables[MODEL]) == {good.version, desk.table.version}
    assert desk.store.history[-1] == ("outside-edit", good.version, desk.table.version)


async def test_data_lost_while_the_worker_was_down_is_restored_from_disk():
    good = a_table(rock=0.9)
    desk = await Desk(remembered(good)).started()
    assert desk.table.version == good.version and desk.live == good.as_hash() and desk.status.restored == 1


@pytest.mark.parametrize(
    ("tag", "value"), [("polka", "0.5"), ("rock", "1.2"), ("rock", "nan"), ("rock", "OFF"), ("rock", "")]
)
async def test_a_bad_table_is_refused_whole(tag, value, caplog):
    desk = await Desk().started()
    good = desk.table
    desk.live["jazz"] = "0.9"  # a fine edit beside a bad one
    desk.live[tag] = value
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await desk.control.refresh()
    assert desk.table is good, "last good kept"
    assert desk.status.refused_tables == 1 and tag in desk.status.refusal and tag in caplog.text
    assert len(caplog.records) == 1 and desk.store.live[MODEL][tag] == value
    desk.live.pop("polka", None)
    desk.live["rock"] = "0.5"
    await desk.control.refresh()
    assert desk.status.refusal == "" and desk.thresholds()["jazz"] == "0.900000"


async def test_another_refusal_is_counted_again():
    desk = await Desk().started()
    for value in ("2", "3"):
        desk.live["rock"] = value
        await desk.control.refresh()
    assert desk.status.refused_tables == 2


@pytest.mark.parametrize("at_start", ["nothing remembered", "remembered"])
async def test_a_start_with_a_refused_table(at_start):
    good = a_table(rock=0.9)
    desk = Desk(*([remembered(good)] if at_start == "remembered" else []))
    desk.store.model, desk.store.live[MODEL] = MODEL, {"polka": "0.5"}
    desk.store.tables[MODEL] = {good.version: good.canonical}
    await desk.started()
    expected = good if at_start == "remembered" else tuned_table(desk.model)
    assert desk.table.version == expected.version and expected.version in desk.store.tables[MODEL]
    assert desk.status.source == ("disk" if at_start == "remembered" else "tuned")
    assert desk.status.refused_tables == 1 and desk.live == {"polka": "0.5"}
    desk.store.live[MODEL] = {"rock": "0.4"}
    await desk.control.refresh()
    assert desk.thresholds()["rock"] == "0.400000" and desk.status.source == "redis"


async def test_the_hot_path_never_waits_for_a_slow_store():
    desk = await Desk().started()
    go_on = asyncio.Event()
    read = desk.store.read

    async def slow(*arguments):
        await go_on.wait()
        return await read(*arguments)

    desk.store.read = slow  # type: ignore[method-assign]
    desk.live["rock"] = "0.9"
    refreshing = asyncio.create_task(desk.control.refresh())
    await asyncio.sleep(0)
    assert desk.thresholds() == TUNED_HASH
    go_on.set()
    await refreshing
    assert desk.thresholds()["rock"] == "0.900000"
