"""What is served: first use, edits, data loss, refusals, models that fail, and starts without Redis."""

import asyncio
import logging

import pytest

from streamer.core.layout import Layout
from streamer.core.thresholds import ThresholdTable
from streamer.serving import MODEL_RETRY_S, LastGood, ModelUnusable, ServingControl, tuned_table
from tests.fakes import (
    LAYOUT,
    MODEL,
    OTHER_MODEL,
    TUNED,
    FakeClock,
    FakeLastGood,
    FakeModelLoader,
    FakeThresholdStore,
    a_model,
    a_table,
)

TUNED_HASH = {"rock": "0.500000", "jazz": "0.250000", "calm": "0.750000"}


class Desk:
    """A ServingControl over fakes; `model` is champion, `other` is there too."""

    def __init__(self, *remembered: LastGood, champion: str | None = MODEL) -> None:
        self.model, self.other = a_model(), a_model(OTHER_MODEL, tuned={**TUNED, "jazz": 0.9})
        self.store, self.clock = FakeThresholdStore(), FakeClock()
        self.loader = FakeModelLoader(self.model, self.other, champion=champion)
        self.last_good = FakeLastGood(*remembered)
        self.control = ServingControl(self.store, self.loader, self.last_good, self.clock)

    async def started(self) -> "Desk":
        await self.control.refresh()
        self.store.calls.clear()
        return self

    @property
    def live(self) -> dict[str, str]:
        return self.store.live[MODEL]

    @property
    def table(self) -> ThresholdTable:
        return self.control.current().table

    @property
    def status(self):
        return self.control.status

    def thresholds(self) -> dict[str, str]:
        return self.table.as_hash()


def remembered(table: ThresholdTable, *, entered: bool = True, model: str = MODEL, at_ms: float = 1.0) -> LastGood:
    return LastGood(model, table.canonical, entered, at_ms)


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
    assert desk.last_good.newest() == LastGood(MODEL, desk.table.canonical, True, desk.clock.wall_ms())


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


async def test_no_model_anywhere_waits_and_says_so():
    desk = await Desk(champion=None).started()
    assert not desk.control.ready and "train and promote one" in desk.status.model_failure
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
