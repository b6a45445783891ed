"""Ops' tools on a real Redis: a table that somebody broke with another tool can be seen and mended."""

import json
import uuid

import pytest

from model.artifact import fixed_network, new_artifact
from ops.cli import thresholds
from ops.errors import OpsError
from ops.thresholds_admin import ThresholdsAdmin
from streamer.core.thresholds import BadThreshold
from streamer.settings import load_settings
from tests.harness import a_vocabulary

pytestmark = pytest.mark.redis


@pytest.fixture
def admin(redis_url, tmp_path):
    vocabulary = a_vocabulary(tags=12, categories=4)
    version = new_artifact(fixed_network(vocabulary), vocabulary, dict.fromkeys(vocabulary.tags, 0.5), tmp_path)
    settings = load_settings(redis_url=redis_url, models_dir=tmp_path, redis_prefix=f"test-{uuid.uuid4().hex[:8]}:")
    admin = ThresholdsAdmin(settings, who="tester")
    admin.promote(version, "first")
    return admin


def history(admin):
    return [entry for _, entry in admin.redis.xrange(admin.keys.history(admin.active_model()))]


def test_a_change_carries_who_and_why(admin):
    live = admin.live()
    tag = live.vocabulary.tags[0]
    written = admin.change(live, {tag: "0.25"}, "too few")
    assert admin.live().table.version == written.after != written.before == live.table.version
    last = history(admin)[-1]
    assert (last["who"], last["why"], last["before"], last["after"]) == (
        "tester", "too few", written.before, written.after,
    )  # fmt: skip
    assert admin.redis.hget(admin.keys.tables(live.model), written.after) == admin.live().table.canonical


def test_of_two_editors_one_is_told(admin):
    mine, theirs = admin.live(), admin.live()
    tag = mine.vocabulary.tags[0]
    admin.change(theirs, {tag: "0.1"}, "theirs")
    with pytest.raises(OpsError, match="somebody else changed"):
        admin.change(mine, {tag: "0.9"}, "mine")
    assert admin.live().table.as_hash()[tag] == "0.100000"


def test_a_broken_value_is_shown_and_mended_by_setting_it(admin):
    live = admin.live()
    tag, other = live.vocabulary.tags[:2]
    admin.redis.hset(admin.keys.live(live.model), tag, "abc")
    broken = admin.live()
    assert "abc" in broken.refusal and admin.keys.live(live.model) in broken.refusal
    assert broken.table.as_hash()[tag] == "0.500000", "what is shown leaves the bad value out"
    with pytest.raises(OpsError, match=rf"field '{tag}'.*HDEL"):
        admin.change(broken, {other: "0.3"}, "another tag")
    admin.change(broken, {tag: "0.3"}, "mended")
    assert admin.live().refusal == ""


def test_an_unknown_field_is_named_with_the_remedy(admin):
    live = admin.live()
    admin.redis.hset(admin.keys.live(live.model), "no-such-tag", "0.5")
    with pytest.raises(OpsError, match=r"field 'no-such-tag'.*HDEL"):
        admin.change(admin.live(), {live.vocabulary.tags[0]: "0.3"}, "")
    with pytest.raises(OpsError, match="Mend it first"):
        admin.promote(live.model, "again")


def test_a_tag_or_value_that_the_person_mistyped_is_theirs(admin):
    live = admin.live()
    with pytest.raises(BadThreshold):
        admin.change(live, {"no-such-tag": "0.5"}, "")
    with pytest.raises(BadThreshold):
        admin.change(live, {live.vocabulary.tags[0]: "1.5"}, "")
    assert admin.live().table.version == live.table.version


def test_an_active_model_that_is_not_here_is_named(admin):
    admin.redis.set(admin.keys.model, "typo")
    with pytest.raises(OpsError, match="names 'typo' as the active model"):
        admin.live()


def test_a_tag_that_training_left_off_is_promoted_shown_and_switched_on(admin, tmp_path, monkeypatch, capsys):
    vocabulary = admin.live().vocabulary
    tag, other = vocabulary.tags[:2]
    tuned = {**dict.fromkeys(vocabulary.tags, 0.5), tag: "off"}
    version = new_artifact(fixed_network(vocabulary), vocabulary, tuned, tmp_path)
    admin.promote(version, "careful")
    live = admin.live()
    assert live.raw[tag] == "off" and live.raw[other] == "0.500000" and live.refusal == ""
    admin.redis.hdel(admin.keys.live(version), tag)
    assert admin.live().table.version == live.table.version, "a tag missing from the hash means its tuned word"

    monkeypatch.setattr(thresholds, "open_admin", lambda: admin)
    thresholds.show([tag], json=True, no_scores=True)
    assert json.loads(capsys.readouterr().out)["tags"][0] | {"class": ""} == {
        "class": "", "tag": tag, "tuned": "off", "live": "off", "decided": None, "share": None, "near_misses": None,
    }  # fmt: skip
    admin.change(admin.live(), {tag: "0.3"}, "wanted after all")
    thresholds.show(changed=True, no_scores=True)
    shown = capsys.readouterr().out
    assert "off" in shown and "0.300000" in shown and "on" in shown
