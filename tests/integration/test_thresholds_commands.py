"""`tagstream thresholds` as people type it, on a real Redis: changes, files, history, the way back, and mistakes."""

import json
import uuid

import pytest

from model.artifact import fixed_network, new_artifact
from ops.thresholds_admin import ThresholdsAdmin
from streamer.settings import load_settings
from tests.harness import a_vocabulary

pytestmark = pytest.mark.redis

TAGS = a_vocabulary(tags=12, categories=4).tags
NO_KAFKA = "127.0.0.1:1"


@pytest.fixture
def admin(run, redis_url, tmp_path, monkeypatch):
    """A promoted model of 12 tags, all tuned to 0.5; commands see the same deployment."""
    vocabulary = a_vocabulary(tags=12, categories=4)
    monkeypatch.setenv("TAGSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("TAGSTREAM_REDIS_PREFIX", f"test-{uuid.uuid4().hex[:8]}:")
    monkeypatch.setenv("TAGSTREAM_KAFKA_BOOTSTRAP", NO_KAFKA)
    monkeypatch.setenv("TAGSTREAM_CACHE_DIR", str(tmp_path / "cache"))
    made = ThresholdsAdmin(load_settings(), who="tester")
    folder = load_settings().models_dir
    version = new_artifact(fixed_network(vocabulary), vocabulary, dict.fromkeys(vocabulary.tags, 0.5), folder)
    made.promote(version, "first")
    return made


def ok(run, *words):
    """The JSON that a command prints."""
    code, out, err = run("thresholds", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def refused(run, *words):
    """What a command says that ends with 1."""
    code, _, err = run("thresholds", *words)
    assert code == 1 and "\ntagstream: " in f"\n{err}" and "Traceback" not in err, (code, err)
    return " ".join(err.split())


def test_changes_their_history_and_the_way_back(run, admin, tmp_path):
    first = admin.live().table.version
    second = ok(run, "set", f"{TAGS[0]}=0.25", f"{TAGS[1]}=off", "--why", "two", "--from", first)["thresholds"]
    file = tmp_path / "part.csv"
    file.write_text(f"tag,threshold\n{TAGS[2]},0.75\n")
    third = ok(run, "apply", file, "--why", "a file")["thresholds"]
    texts = admin.live().table.as_hash()
    assert [texts[tag] for tag in TAGS[:4]] == ["0.250000", "off", "0.750000", "0.500000"]
    assert ok(run, "diff", first[:6])["changes"] == {
        TAGS[0]: ["0.500000", "0.250000"], TAGS[1]: ["0.500000", "off"], TAGS[2]: ["0.500000", "0.750000"],
    }  # fmt: skip
    assert ok(run, "diff", second, third)["changes"] == {TAGS[2]: ["0.500000", "0.750000"]}
    assert ok(run, "diff", "tuned", first)["changes"] == {}
    back = ok(run, "rollback", first, "--why", "all of it")
    assert back["thresholds"] == first == admin.live().table.version and len(back["changes"]) == 3
    found = ok(run, "history")["entries"]
    assert [(one["action"], one["before"], one["after"], one["why"]) for one in found] == [
        ("rollback", third, first, "all of it"),
        ("apply", second, third, "a file"),
        ("set", first, second, "two"),
        ("promote", "", first, "first"),
    ]
    assert found[0]["changes"][TAGS[1]] == ["off", "0.500000"] and found[3]["changes"] is None
    assert [one["action"] for one in ok(run, "history", "--tag", TAGS[2])["entries"]] == ["rollback", "apply"]
    shown = run("thresholds", "history", "--limit", "1")[1]
    assert f"{third} -> {first}" in shown and f"{TAGS[1]} off -> 0.5" in shown and "why: all of it" in shown


def test_an_exported_table_is_edited_and_applied_once(run, admin, tmp_path):
    for name in ("table.yaml", "table.csv"):
        file = tmp_path / name
        assert run("thresholds", "export", "--out", file)[0] == 0
        before = admin.live().table
        assert ok(run, "apply", file, "--dry-run")["changes"] == {}
        now = before.as_hash()[TAGS[3]]
        file.write_text(file.read_text().replace(f"{TAGS[3]}: {now}", f"{TAGS[3]}: 0.1").replace(
            f"{TAGS[3]},{now}", f"{TAGS[3]},0.2"))  # fmt: skip
        assert len(ok(run, "apply", file, "--dry-run")["changes"]) == 1 and admin.live().table.version == before.version
        ok(run, "apply", file)
        assert admin.live().table.as_hash()[TAGS[3]] == ("0.100000" if name == "table.yaml" else "0.200000")
        ok(run, "set", f"{TAGS[4]}=0.9")
        said = refused(run, "apply", file)
        assert "out of date" in said and f"not {before.version}" in said and "--newest" in said
        ok(run, "apply", file, "--newest")
        assert admin.live().table.as_hash()[TAGS[4]] == "0.500000", "the whole table is in the file"


def test_a_change_that_changes_nothing_is_not_written(run, admin):
    entries = admin.redis.xlen(admin.keys.history(admin.active_model()))
    code, _, err = run("thresholds", "set", f"{TAGS[0]}=0.50")
    assert code == 0 and "Nothing changes" in err
    assert admin.redis.xlen(admin.keys.history(admin.active_model())) == entries


def test_a_rollback_mends_a_hash_that_workers_refuse(run, admin):
    live = admin.live()
    admin.redis.hset(admin.keys.live(live.model), mapping={"no-such-tag": "0.5", TAGS[0]: "abc"})
    assert admin.live().refusal
    ok(run, "rollback", live.table.version)
    assert admin.live().refusal == "" and admin.live().raw == dict(live.table.as_hash())


def test_mistakes_are_one_sentence_and_change_nothing(run, admin, tmp_path):
    live = admin.live()
    raw, entries = live.raw, admin.redis.xlen(admin.keys.history(live.model))
    (tmp_path / "bad.yaml").write_text(f"{TAGS[0]}: 0.1\n{TAGS[1]}: 1.5\n")
    (tmp_path / "other.yaml").write_text(f"model: another\nthresholds: abc\ntags:\n  {TAGS[0]}: 0.1\n")
    (tmp_path / "empty.csv").write_text("")
    for words, said in [
        (("set", "genres-t1=0.2"), "'genres-t1' is not in the vocabulary; the nearest: genres-t"),
        (("set", f"{TAGS[0]}=0.1", f"{TAGS[1]}=1.5"), "'1.5': a number in [0, 1] or off"),
        (("set", f"{TAGS[0]}=nan"), "a number in [0, 1] or off"),
        (("set", f"{TAGS[0]}=OFF"), "write off in lower case"),
        (("set", TAGS[0]), "is not TAG=VALUE"),
        (("set", f"{TAGS[0]}=0.1", f"{TAGS[0]}=0.2"), "named twice"),
        (("set", f"{TAGS[0]}=0.1", "--from", "0123456789ab"), f"are {live.table.version} by now, not 0123456789ab"),
        (("apply", tmp_path / "bad.yaml"), "bad.yaml, line 2: the threshold of"),
        (("apply", tmp_path / "other.yaml"), "is of model another, these are the thresholds of"),
        (("apply", tmp_path / "empty.csv"), "holds no thresholds"),
        (("apply", tmp_path / "none.csv"), "cannot be read"),
        (("rollback", "0123456789ab"), "never had thresholds '0123456789ab'"),
        (("rollback", "live"), "name a version"),
        (("diff", "live", "abc"), "never had thresholds 'abc'"),
        (("history", "--tag", "genres-t1"), "no tag 'genres-t1'"),
        (("export", "--out", tmp_path / "no" / "t.csv"), "cannot be written"),
        (("show", "genres-t1"), "the nearest: genres-t"),
        (("set", f"{TAGS[0]}=0.1", "--model", "nobody"), "nobody"),
        (("preview", f"{TAGS[0]}=2"), "a number in [0, 1]"),
        (("preview", f"{TAGS[0]}=0.2"), "nothing to foresee a change by"),
        (("suggest", TAGS[0]), "one aim is needed"),
        (("suggest", TAGS[0], "--recall", "0.1", "--share", "0.1"), "one aim is needed"),
        (("suggest", TAGS[0], "--precision", "80"), "--precision 80 is no aim"),
        (("suggest", TAGS[0], "--precision", "nan"), "is no aim"),
        (("suggest", TAGS[0], "--precision", "0.5"), "looked up in the curves"),
        (("suggest", TAGS[0], "--share", "0.5"), "counted over retained scores, and there are none"),
    ]:
        assert said in refused(run, *words), words
    assert admin.live().raw == raw and admin.redis.xlen(admin.keys.history(live.model)) == entries


def test_a_version_that_redis_holds_wrongly_is_not_rolled_back_to(run, admin):
    model = admin.active_model()
    admin.redis.hset(admin.keys.tables(model), mapping={"aaaaaaaaaaaa": "{}", "bbbbbbbbbbbb": "no", "bbbbbbbbbbb2": ""})
    assert "is no table" in refused(run, "rollback", "aaaaaaaaaaaa")
    assert "is no table" in refused(run, "rollback", "bbbbbbbbbbbb")
    assert "begins 2 thresholds versions" in refused(run, "rollback", "bbbbbbb")
    good = admin.live().table
    admin.redis.hset(admin.keys.tables(model), "cccccccccccc", good.canonical)
    assert f"is {good.version}" in refused(run, "rollback", "cccc")


def test_a_redis_that_takes_no_writes_or_is_away_leaves_everything(run, admin, own_services, monkeypatch):
    services = own_services(kafka=False)
    monkeypatch.setenv("TAGSTREAM_REDIS_URL", services.redis_url)
    desk = ThresholdsAdmin(load_settings(), "tester")
    model = admin.active_model()
    desk.promote(model, "first")
    desk.redis.replicaof("127.0.0.1", 1)  # as a failover leaves it
    raw = desk.live().raw
    for words in (("set", f"{TAGS[0]}=0.1"), ("rollback", "tuned")):
        if words[0] == "rollback":
            desk.redis.replicaof("NO", "ONE")
            desk.redis.hset(desk.keys.live(model), TAGS[1], "0.3")
            raw = desk.live().raw
            desk.redis.replicaof("127.0.0.1", 1)
        said = refused(run, *words, "--timeout", "0")
        assert "Redis at" in said and "read only" in said.lower(), said
        assert desk.live().raw == raw and desk.redis.xlen(desk.keys.history(model)) == 1
    services.redis.kill()
    for words in (("show",), ("set", f"{TAGS[0]}=0.1"), ("history",), ("export",)):
        assert "does not answer" in refused(run, *words)


def test_a_worker_that_does_not_answer_is_named(run, admin):
    live = admin.live()
    beat = {"model": live.model, "thresholds": live.table.version, "obeyed_at_ms": "1", "refusal": "says why"}
    admin.redis.hset(admin.keys.worker("deaf"), mapping=beat)
    admin.redis.hset(admin.keys.worker("of another model"), mapping={**beat, "model": "other"})
    said = refused(run, "set", f"{TAGS[0]}=0.1", "--timeout", "0.05")
    assert "written, but not obeyed within 0.05 s by deaf (says why)" in said and "another" not in said
    assert ok(run, "set", f"{TAGS[0]}=0.2", "--no-wait")["obeyed_ms"] == {}
