"""The console as a person uses it: a real browser, real workers, a real stream."""

import time
from collections.abc import Callable

import pytest

from ops.console.pictures import threshold_at
from ops.thresholds_history import entries
from tests.browser.stage import HOSTILE, Stage, having
from tests.harness import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

FIRST_PAINT_MS, TRIES = 1000, 2  # the better of two: what else runs beside the tests is not the console's fault
PAGES = ("overview", "thresholds?tag=jazz", "tracks?id=T-00001", "deadletters?code=not-json", "models")
USERS = "anna:write:0123456789abcdef ben:read:fedcba9876543210"


def open_page(page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("body[data-connected=yes]")


def first_paint_ms(page, url: str) -> float:
    open_page(page, url)
    page.wait_for_load_state("networkidle")
    return page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")


def number(page, selector: str) -> int:
    return int(page.inner_text(selector).replace(",", ""))


def live_versions(stage: Stage) -> set[str]:
    return {beat["thresholds"] for beat in stage.admin.workers().values()}


def test_two_edits_are_previewed_applied_obeyed_and_undone(page, stage):
    before = stage.decisions()
    first = stage.admin.live()
    open_page(page, f"{stage.console.url}/thresholds")

    # search a tag, move its slider, see the preview follow
    page.keyboard.press("/")
    page.keyboard.type("jaz")
    page.wait_for_selector("#region-tag h2:text-is('jazz')")
    page.wait_for_selector("#decided-here:not(:text-is('–'))")
    assert number(page, "#decided-live") == len(having(before, "jazz"))
    page.focus("#slider")
    seen = [number(page, "#decided-here")]
    for _ in range(3):
        for _ in range(60):
            page.keyboard.press("ArrowLeft")
        page.wait_for_function("was => +document.querySelector('#decided-here').textContent != was", arg=seen[-1])
        seen.append(number(page, "#decided-here"))
    assert seen == sorted(seen) and seen[-1] > seen[0], "further down more tracks have it"
    assert "gain it" in page.inner_text("#foreseen")
    lowered = f"{threshold_at(int(page.input_value('#slider'))):.6f}"
    page.wait_for_function("text => document.querySelector('#exact').value == text", arg=lowered)
    promised = number(page, "#decided-here")

    # stage it, and a second one by the keyboard alone; nothing is written yet
    page.click("#stage")
    page.wait_for_selector("#region-change >> text=1 staged")
    page.fill("#search", "calm")
    page.wait_for_selector("#region-tag h2:text-is('calm')")
    page.fill("#exact", "off")
    page.keyboard.press("Enter")
    page.wait_for_selector("#region-change >> text=2 staged")
    assert stage.admin.live().table.version == first.table.version

    # apply with a reason: both workers obey, and the decisions change as they were foreseen
    page.fill("#why", "more jazz, no calm")
    page.keyboard.press("Enter")
    page.wait_for_selector("#applied >> text=Applied and obeyed")
    applied = stage.admin.live()
    assert applied.table.as_hash() == {**first.table.as_hash(), "jazz": lowered, "calm": "off"}
    assert live_versions(stage) == {applied.table.version}
    assert all(name in page.inner_text("#applied") for name in ("worker-a", "worker-b"))
    stage.produce()
    after = stage.settle(applied.table.version)
    assert len(having(after, "jazz")) == promised and not having(after, "calm") and having(before, "calm")

    # undo: the table of before, and its decisions
    page.click("#undo")
    page.wait_for_selector("#applied >> text=undo of")
    page.wait_for_selector("#applied >> text=Applied and obeyed")
    assert live_versions(stage) == {first.table.version}
    stage.produce()
    again = stage.settle(first.table.version)
    assert {track: one["tags"] for track, one in again.items()} == {track: one["tags"] for track, one in before.items()}

    undone, change, *_ = entries(stage.admin, stage.admin.live())
    assert (change.why, undone.action, undone.after) == ("more jazz, no calm", "rollback", first.table.version)
    assert change.who == undone.who == page.inner_text("header .right > span >> nth=-1").strip()
    page.wait_for_selector("#region-history >> text=more jazz, no calm")


def test_a_staged_change_of_a_stale_table_is_not_applied_until_its_author_has_looked(page, stage):
    open_page(page, f"{stage.console.url}/thresholds?tag=rock")
    page.fill("#exact", "0.9")
    page.keyboard.press("Enter")
    page.wait_for_selector("#region-change >> text=1 staged")
    live = stage.admin.live()
    stage.admin.change(live, {"wild": "0.77"}, "somebody else")
    page.wait_for_selector("text=Changed meanwhile")
    assert page.is_disabled("#apply")
    page.wait_for_selector("#region-history >> text=somebody else")
    page.click("text=Take my edits over")
    page.fill("#why", "after a look")
    page.click("#apply:enabled")
    page.wait_for_selector("#applied >> text=Applied and obeyed")
    texts = stage.admin.live().table.as_hash()
    assert (texts["rock"], texts["wild"]) == ("0.900000", "0.770000")
    # the way back over both, from the history: seen first, then taken
    page.click(f"button[data-do=back][data-version='{live.table.version}'] >> nth=0")
    page.wait_for_selector("#region-change >> text=2 staged")
    page.click("#apply")
    page.wait_for_selector(f"#applied >> text={live.table.version}")
    eventually(lambda: stage.admin.live().table.version == live.table.version, 10, "the table of before")


def test_tracks_of_the_past_are_counted_re_decided_and_a_run_is_cancelled(page, stage):
    before = stage.settle()
    tuned = stage.admin.live()
    stage.admin.change(tuned, {"techno": "off"}, "no techno")
    open_page(page, f"{stage.console.url}/thresholds?tag=techno")
    page.wait_for_selector(".live-value:text-is('off')")
    assert page.locator("#redecide").count() == 0, "first it is counted"
    page.click("#count")
    losing = len(having(before, "techno"))
    page.wait_for_selector(f"#region-past >> text={losing} of {len(before)} tracks would change")
    assert stage.decisions() == before, "nothing is published by counting"
    assert f"techno: −{losing} lose it" in page.inner_text("#region-past")
    page.fill("#why-again", "techno is over")
    page.click("#redecide")
    page.wait_for_selector(f"#run-ended >> text={losing} of {len(before)} tracks decided again")
    after = stage.settle()
    assert not having(after, "techno") and having(before, "techno")
    changed = [one for one in after.values() if "redecided" in one]
    assert len(changed) == losing and all(one["removed"] == ["techno"] for one in changed)
    row = page.inner_text("#region-history tr:has-text('techno is over')")
    assert "re-decide" in row and page.inner_text("header .right > span >> nth=-1").strip() in row

    for worker in stage.workers:
        worker.pause()
    try:
        page.click("#count")
        page.wait_for_selector("#run-progress")
        page.click("#stop-run")
        page.wait_for_selector("#run-ended >> text=Cancelled at")
    finally:
        for worker in stage.workers:
            worker.resume()
    assert page.locator("#redecide").count() == 0, "what was not counted to its end may not be done"
    stage.admin.change(stage.admin.live(), {"techno": tuned.table.as_hash()["techno"]}, "as it was")
    page.click("#count:enabled")
    page.wait_for_selector(f"#region-past >> text={losing} of {len(before)} tracks would change")
    page.fill("#why-again", "techno is back")
    page.click("#redecide")
    page.wait_for_selector(f"#run-ended >> text={losing} of {len(before)} tracks decided again")
    assert {track: one["tags"] for track, one in stage.settle().items()} == {
        track: one["tags"] for track, one in before.items()
    }


def test_a_flood_of_slider_moves_asks_redis_nothing(page, stage):
    open_page(page, f"{stage.console.url}/thresholds?tag=drums")
    page.wait_for_selector("#decided-here:not(:text-is('–'))")

    def commands() -> int:
        return stage.admin.redis.info("stats")["total_commands_processed"]

    def in_two_seconds(during: Callable[[], None]) -> int:
        began, ends_s = commands(), time.monotonic() + 2.0
        during()
        page.wait_for_timeout(max(0.0, ends_s - time.monotonic()) * 1000)
        return commands() - began

    quiet = in_two_seconds(lambda: None)
    flood = """() => { const slider = document.querySelector('#slider');
        const socket = new WebSocket(`ws://${location.host}/live/thresholds?tag=drums`);
        socket.onopen = () => { for (let n = 0; n < 5000; n++)
            socket.send(JSON.stringify({do: 'move', tag: 'drums', value: String(n % 1000)})); };
        for (let n = 0; n < 2000; n++) { slider.value = n % 1000;
            slider.dispatchEvent(new Event('input', {bubbles: true})); } }"""
    flooded = in_two_seconds(lambda: page.evaluate(flood))
    # workers and the feed go on meanwhile; a second page asks for its own history, once
    assert flooded < 1.5 * quiet + 30, f"{flooded} commands during 7,000 moves, {quiet} without"
    page.wait_for_function("document.querySelector('#exact').value != ''")
    assert stage.admin.live().table.as_hash()["drums"] == page.inner_text(".live-value").ljust(8, "0")


def test_a_track_is_explained_and_a_hostile_name_is_only_a_name(page, stage):
    decisions = stage.decisions()
    open_page(page, f"{stage.console.url}/tracks")
    for track in ("T-00003", HOSTILE):
        page.fill("#track-id", track)
        page.keyboard.press("Enter")
        page.wait_for_function("id => document.querySelector('#region-track h2')?.textContent == id", arg=track)
        page.wait_for_selector("#region-track table.why")
        decided = {tag for names in decisions[track]["tags"].values() for tag in names}
        marked = page.locator("table.why tr:has(.good-text)").all_inner_texts()
        assert {text.split()[0] for text in marked} == decided
        first = page.inner_text("table.why tbody tr >> nth=1")
        score = decisions[track]["scores"].get(first.split()[0])
        assert score is None or f"{score:.3f}" in first
        assert page.locator("#region-track script").count() == 0
    page.fill("#track-id", "no-such-track")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=No decision, no scores and no dead letter of this id")
    page.fill("#track-id", "BAD-1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#region-track .pill.bad >> text=dead letter")


def test_dead_letters_are_seen_and_replayed(page, stage):
    open_page(page, f"{stage.console.url}/deadletters")
    page.click("button[data-do=code][data-code=not-json]")
    page.click("button[data-do=show] >> nth=0")
    page.wait_for_selector("pre.letter")
    assert "not json <b>at all</b>" in page.inner_text("pre.letter")
    page.click("button[data-do=plan][data-code=not-json]")
    page.click("text=Replay 3 letters")
    page.wait_for_selector("text=3 sent again")
    page.click("button[data-do=plan][data-code=not-json]")
    page.wait_for_selector("text=replayed before")


def test_only_who_has_a_token_comes_in_and_a_reader_cannot_write(page, stage):
    guarded = stage.a_console(console_users=USERS)
    guarded.start()
    guarded.wait_ready()
    page.goto(f"{guarded.url}/thresholds?tag=jazz")
    page.fill("[name=name]", "ben")
    page.fill("[name=token]", "fedcba987654321X")
    page.click("text=Log in")
    assert "do not go together" in page.inner_text("[role=alert]")
    page.fill("[name=name]", "ben")
    page.fill("[name=token]", "fedcba9876543210")
    page.click("button:text-is('Log in')")
    page.wait_for_selector("#region-tag h2:text-is('jazz')")
    assert "read only" in page.inner_text("header") and page.is_disabled("#stage") and page.is_disabled("#count")
    page.click("text=Log out")
    page.wait_for_url("**/login")
    page.goto(f"{guarded.url}/thresholds")
    assert page.url.startswith(f"{guarded.url}/login")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_quick_and_axe_finds_nothing_serious(page, stage, theme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=theme)
    for path in PAGES:
        paint_ms = min(first_paint_ms(page, f"{stage.console.url}/{path}") for _ in range(TRIES))
        assert paint_ms < FIRST_PAINT_MS, f"{path} was first painted after {paint_ms:.0f} ms"
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, f"{path} in {theme}: {serious}"


def test_the_overview_is_live_and_says_what_is_wrong(page, stage):
    """The last one: it ends the workers."""
    open_page(page, f"{stage.console.url}/overview")
    page.wait_for_selector("text=2 of 2 ready")
    assert stage.model in page.inner_text("#region-workers")
    assert page.locator("#region-problems .problem").count() == 0
    stage.workers[1].terminate()
    page.wait_for_selector("text=1 of 1 ready")
    stage.workers[0].terminate()
    page.wait_for_selector("#region-problems >> text=No worker is running")
