"""What is served: models that change or fail, starts without Redis, and Redis going away."""

import logging
from dataclasses import replace

import pytest

from streamer.core.layout import Layout
from streamer.serving import MODEL_RETRY_S, LastGood, ModelUnusable, tuned_table
from tests.fakes import LAYOUT, MODEL, OTHER_MODEL, a_model, a_table
from tests.serving_desk import Desk, remembered


async def test_a_model_is_switched_with_its_own_table():
    desk = await Desk().started()
    desk.store.model = OTHER_MODEL
    desk.store.live[OTHER_MODEL] = {"rock": "0.6", "jazz": "0.9", "calm": "0.75"}
    await desk.control.refresh()
    serving = desk.control.current()
    assert serving.model is desk.other
    assert serving.table.as_hash() == {"rock": "0.600000", "jazz": "0.900000", "calm": "0.750000"}
    assert serving.table.version in desk.store.tables[OTHER_MODEL] and desk.status.restored == 0


async def test_a_model_named_without_promotion_starts_with_its_tuned_table():
    desk = await Desk().started()
    desk.store.model = OTHER_MODEL
    await desk.control.refresh()
    assert desk.control.current().model is desk.other and desk.thresholds()["jazz"] == "0.900000"
    assert desk.store.history[-1] == ("first use", "", desk.table.version) and desk.status.restored == 0


async def test_there_and_back_again_keeps_the_edits():
    desk = await Desk().started()
    desk.live["rock"] = "0.9"
    for name in (MODEL, OTHER_MODEL, MODEL):
        desk.store.model = name
        await desk.control.refresh()
    assert desk.control.current().model is desk.model and desk.thresholds()["rock"] == "0.900000"


@pytest.mark.parametrize(
    "error", [ModelUnusable("checksum of model.safetensors differs"), RuntimeError("CUDA out of memory")]
)
async def test_a_model_that_cannot_be_loaded_leaves_the_old(error):
    desk = await Desk().started()
    desk.loader.models[OTHER_MODEL] = error
    desk.store.model = OTHER_MODEL
    desk.live["rock"] = "0.9"
    await desk.control.refresh()
    assert desk.control.current().model is desk.model
    assert desk.thresholds()["rock"] == "0.900000", "its thresholds are still followed"
    assert desk.status.model_failures == 1 and str(error) in desk.status.model_failure
    await desk.control.refresh()
    assert desk.loader.loads == [MODEL, OTHER_MODEL], "not tried twice a second"
    desk.clock.now_s += MODEL_RETRY_S
    desk.loader.models[OTHER_MODEL] = desk.other
    await desk.control.refresh()
    assert desk.control.current().model is desk.other and desk.status.model_failure == ""


async def test_naming_the_old_model_again_ends_the_complaint():
    desk = await Desk().started()
    for name in ("20261124T094500Z-00000000", MODEL):
        desk.store.model = name
        await desk.control.refresh()
    assert desk.status.model_failure == "" and desk.status.model_failures == 1


async def test_another_vocabulary_is_refused_on_a_running_topic():
    desk = await Desk().started()
    stranger = a_model(OTHER_MODEL, Layout.build("ffffffffffff", {"moods": {"tags": ["calm"]}}), {"calm": 0.5})
    desk.loader.models[OTHER_MODEL] = stranger
    desk.store.model = OTHER_MODEL
    await desk.control.refresh()
    assert desk.control.current().model is desk.model
    assert "ffffffffffff" in desk.status.model_failure and LAYOUT.fingerprint in desk.status.model_failure


async def test_a_start_keeps_to_the_vocabulary_of_the_last_good_model():
    """A hand-set name of another vocabulary would make every event of the topic a dead letter."""
    stranger = a_model(OTHER_MODEL, Layout.build("ffffffffffff", {"moods": {"tags": ["calm"]}}), {"calm": 0.5})
    state = replace(remembered(a_table(rock=0.9)), vocabulary=LAYOUT.fingerprint)
    desk = Desk(state, champion=OTHER_MODEL)
    desk.loader.models[OTHER_MODEL] = stranger
    desk.store.model = OTHER_MODEL
    for _ in range(2):
        await desk.control.refresh()
        assert desk.control.current().model is desk.model and desk.store.model == OTHER_MODEL
    assert "ffffffffffff" in desk.status.model_failure and "TAGSTREAM_STATE_DIR" in desk.status.model_failure
    del desk.loader.models[MODEL]
    again = Desk(state, champion=OTHER_MODEL)
    again.loader.models = {OTHER_MODEL: stranger}
    await again.control.refresh()
    assert not again.control.ready, "better none than another vocabulary's, the champion included"


async def test_a_start_takes_the_last_good_model_where_the_named_one_is_broken():
    desk = Desk(remembered(a_table()))
    desk.loader.models[OTHER_MODEL] = ModelUnusable("checksum of model.safetensors differs")
    desk.store.model = OTHER_MODEL
    for _ in range(2):
        await desk.control.refresh()
        assert desk.control.current().model is desk.model and desk.store.model == OTHER_MODEL
    assert "checksum" in desk.status.model_failure


async def test_no_model_anywhere_waits_and_says_so():
    desk = await Desk(champion=None).started()
    assert not desk.control.ready and "no champion" in desk.status.model_failure
    desk.loader.named = MODEL
    await desk.control.refresh()
    assert desk.control.ready and desk.status.model_failure == ""


async def test_aliases_that_cannot_be_read_do_not_end_the_worker():
    broken = ModelUnusable("aliases.json cannot be read")
    desk = Desk()
    desk.loader.named = broken
    await desk.started()
    assert not desk.control.ready and desk.status.model_failure == "aliases.json cannot be read"
    desk.last_good.save(remembered(a_table()))
    await desk.control.refresh()
    assert desk.control.ready, "the remembered model needs no alias"


async def test_the_remembered_model_goes_before_the_champion_when_redis_names_none():
    desk = await Desk(remembered(tuned_table(a_model(OTHER_MODEL)), model=OTHER_MODEL)).started()
    assert desk.store.model == OTHER_MODEL


async def test_a_remembered_model_that_is_gone_gives_way_to_the_champion():
    desk = await Desk(remembered(a_table(), model="20200101T000000Z-00000000")).started()
    assert desk.store.model == MODEL


async def test_no_redis_at_the_start_the_disk_decides():
    older, newest = a_table(rock=0.8), a_table(rock=0.9)
    desk = Desk(remembered(newest, at_ms=2.0), remembered(older, at_ms=1.0))
    desk.store.down = True
    await desk.started()
    assert desk.table.version == newest.version
    assert (desk.status.store_up, desk.status.source) == (False, "disk")


@pytest.mark.parametrize("state", [[], [remembered(a_table(), model=OTHER_MODEL)], [LastGood(MODEL, "{", True, 1.0)]])
async def test_no_redis_and_no_usable_memory_of_this_model_the_tuned_table(state, caplog):
    desk = Desk(*state)
    del desk.loader.models[OTHER_MODEL]
    desk.store.down = True
    with caplog.at_level(logging.WARNING):
        await desk.started()
    assert desk.table.version == tuned_table(desk.model).version
    assert (desk.status.store_up, desk.status.source) == (False, "tuned") and "tuned table" in caplog.text


async def test_redis_goes_away_and_comes_back():
    desk = await Desk().started()
    desk.live["rock"] = "0.9"
    await desk.control.refresh()
    serving = desk.control.current()
    desk.store.down = True
    for _ in range(3):
        await desk.control.refresh()
    assert desk.control.current() is serving and not desk.status.store_up and desk.status.source == "redis"
    desk.store.down = False
    desk.live["rock"] = "0.7"
    await desk.control.refresh()
    assert desk.thresholds()["rock"] == "0.700000" and desk.status.store_up and desk.status.restored == 0


@pytest.mark.parametrize("source", ["tuned", "disk"])
async def test_a_table_used_while_redis_was_down_is_entered_when_it_is_back(source):
    used = a_table(rock=0.9) if source == "disk" else a_table()
    desk = Desk(*([remembered(used, entered=False)] if source == "disk" else []))
    desk.store.down = True
    await desk.started()
    assert desk.table.version == used.version and desk.status.source == source
    kept = desk.last_good.newest()
    assert kept is not None and not kept.entered
    desk.store.down = False
    edited = a_table(jazz=0.1)  # what ops had done meanwhile
    desk.store.model, desk.store.live[MODEL] = MODEL, edited.as_hash()
    desk.store.tables[MODEL] = {edited.version: edited.canonical}
    await desk.control.refresh()
    assert desk.table.version == edited.version, "Redis is the truth; a table used aside is no data loss"
    assert set(desk.store.tables[MODEL]) == {used.version, edited.version}, "but its decisions stay explainable"
    assert desk.status.source == "redis" and desk.status.restored == 0


async def test_redis_dying_halfway_through_a_pass_is_only_an_outage():
    desk = await Desk().started()
    desk.live["rock"] = "0.9"
    serving = desk.control.current()
    adopt = desk.store.adopt

    async def dies(*arguments):
        desk.store.down = True
        await adopt(*arguments)

    desk.store.adopt = dies  # type: ignore[method-assign]
    await desk.control.refresh()
    assert desk.control.current() is serving, "not entered, so not used"
    desk.store.down, desk.store.adopt = False, adopt  # type: ignore[method-assign]
    await desk.control.refresh()
    assert desk.thresholds()["rock"] == "0.900000"


async def test_a_full_disk_stops_nothing(caplog):
    desk = Desk()
    desk.last_good.broken = True
    await desk.started()
    desk.live["rock"] = "0.9"
    await desk.control.refresh()
    assert desk.thresholds()["rock"] == "0.900000" and "No space left" in caplog.text


async def test_a_model_whose_table_is_refused_is_loaded_once():
    """And not at every look at Redis, twice a second, for as long as nobody mends the table."""
    desk = await Desk().started()
    desk.store.live[OTHER_MODEL] = {"rock": "7"}
    desk.store.model = OTHER_MODEL
    for _ in range(5):
        await desk.control.refresh()
    assert desk.loader.loads == [MODEL, OTHER_MODEL] and desk.control.current().model is desk.model
    desk.store.live[OTHER_MODEL] = {"rock": "0.7"}
    await desk.control.refresh()
    assert desk.control.current().model is desk.other and desk.loader.loads == [MODEL, OTHER_MODEL]
