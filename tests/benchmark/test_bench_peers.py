"""The benchmark itself works: every peer runs on real parts and decides what the reference decides. No times."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from ops.bench import peers_report
from ops.bench.compare_peers import choose, run_peers
from ops.bench.peers import BASELINE, PEERS
from ops.bench.workload import Workload, track_id_of
from ops.errors import OpsError

EVENTS = 3_000
ANOTHER_PARSER = ("aiokafka-simdjson", "confluent")  # the program and the parser are each in another system


def reference(workload: Workload) -> dict[str, frozenset[str]]:
    """The decisions of the reference scorer."""
    decided = {}
    for first, rows in workload.chunks():
        masks = workload.scorer.scores(rows.astype(np.float32)).astype(np.float64) >= workload.scorer.thresholds
        for offset, mask in enumerate(masks):
            tags = frozenset(workload.layout.tags[t] for t in np.flatnonzero(mask))
            decided[track_id_of(first + offset)] = tags
    return decided


def test_comparison_accepts_the_reference_and_sees_what_is_missing_wrong_or_too_much():
    workload = Workload(200)
    right = reference(workload)
    assert workload.compare(right).holds
    track = track_id_of(7)
    without = {name: tags for name, tags in right.items() if name != track}
    assert workload.compare(without).missing_tracks == 1
    assert workload.compare(right | {"T-x": frozenset()}).unknown_tracks == 1
    dropped = workload.compare(right | {track: frozenset()})
    assert dropped.tags_differing + dropped.tags_at_threshold == len(right[track]) and not dropped.holds
    assert workload.compare(right | {track: right[track] | {"no-such-tag"}}).tags_differing == 1


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.timeout(400)
def test_every_system_that_is_installed_decides_what_the_reference_decides(services, monkeypatch, tmp_path):
    for variable, address in services.environment().items():
        monkeypatch.setenv(variable, address)
    peers = [peer for peer in PEERS if peer.name not in ANOTHER_PARSER]
    report = run_peers(peers, EVENTS, rounds=1, on_progress=lambda _title, _done, _total: None)
    assert report["agree"]
    assert {*report["systems"], *report["missing"]} == {peer.name for peer in peers}
    for system in report["systems"].values():
        assert system["agreement"]["tags"] > system["events"]
        assert system["agreement"]["repeated_outputs"] == 0
        assert system["events_per_s"] > 0 and system["cpu_us_per_event"] >= 0  # ticks of 10 ms, and few events
    assert report["systems"][BASELINE]["ratio_to_stock_faust"] == 1.0
    assert report["environment"]["cores"] >= 1 and report["foreign_cores"] >= 0
    assert len(peers_report.rows(report)) == len(peers)
    assert peers_report.save(report, tmp_path).stat().st_size > 10_000
    assert orjson.loads((tmp_path / "peers.json").read_bytes())["systems"].keys() == report["systems"].keys()


def test_a_system_that_is_not_installed_is_told_in_a_sentence():
    absent = [
        replace(PEERS[0], name="some-framework", module="no_such_module"),
        replace(PEERS[0], name="another", own_environment="no-such-environment"),
    ]
    with pytest.raises(OpsError) as told:
        run_peers(absent, 1_000, 1, lambda *_: None)
    assert "some-framework was not measured: no_such_module is not installed" in str(told.value)
    assert "another was not measured: it has an environment of its own" in str(told.value)
    report = {"systems": {}, "missing": {"some-framework": "Not there."}}
    assert peers_report.rows(report) == [["some-framework", "not measured", "-", "-", "-", "-", "-"]]


def test_a_name_that_no_system_has_is_told_with_the_names_there_are():
    with pytest.raises(OpsError, match="there is no system 'fuast' to measure; there are stock-faust, "):
        choose(["fuast"])
    assert [peer.name for peer in choose(["tagstream-json", "stock-faust"])] == ["stock-faust", "tagstream-json"]
