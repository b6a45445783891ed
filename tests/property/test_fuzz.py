"""The short fuzzing run; the long one is `make fuzz`. And the harness itself: decoders that are wrong are caught."""

import contextlib
import time
import tracemalloc
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.adapters.json_events import JsonEventDecoder
from streamer.core.events import MAX_JSON_BYTES, Rejected
from tests.fakes import LAYOUT, FakeRecord
from tests.fuzz.__main__ import one_round
from tests.fuzz.judges import any_headers, decode_agrees, headers_are_writable, neighbours_do_not_notice
from tests.fuzz.targets import TARGETS, Target

MIB = 2**20
PEAK_MIB_MAX = 40  # of one input of 256 KiB: 130,000 zeros are as many Python objects
ROUNDS = 8

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@each_target
def test_what_was_kept_and_what_tortures(target: Target):
    """In time, in bounded memory, and by both readers alike."""
    random = Random(3)
    found = [*target.corpus(), *(target.torture(random, number) for number in range(3 * target.tortures))]
    for value in found:
        for key in (None, b"T-1"):
            decode_agrees(target, LAYOUT, key, value)
    decoder = target.decoder(LAYOUT)
    for value in found:
        tracemalloc.start()
        began_s = time.thread_time()
        with contextlib.suppress(Rejected):
            decoder.decode(value) if target.bulk else decoder.explain(None, value)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < PEAK_MIB_MAX * MIB, f"{peak / MIB:.0f} MiB for {len(value)} bytes: {value[:80]!r}"
        assert time.thread_time() - began_s < 5


@each_target
@given(
    random=st.randoms(use_true_random=False), changes=st.integers(0, 5), key=st.sampled_from([None, b"T-1", b"\xff"])
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_event_is_read_alike_by_both(target: Target, random: Random, changes: int, key: bytes | None):
    value = target.valid(random, LAYOUT, "T-1")
    for _ in range(changes):
        value = target.spoiled(random, value)
    accepted = decode_agrees(target, LAYOUT, key, value)
    assert accepted or changes or (key == b"\xff" and not target.bulk)
    headers_are_writable(any_headers(random))


@each_target
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_neighbours_do_not_notice(target: Target, seed: int):
    one_round(target, Random(seed))


def test_any_content_type_but_the_known_is_a_dead_letter_of_its_own():
    """And what is not of the type that it says."""
    target, random = TARGETS["json"], Random(1)
    value, rows = target.valid(random, LAYOUT, "T-1"), TARGETS["arrow"].valid(random, LAYOUT, "T-1")
    hostile = [
        FakeRecord(0, one, b"T-1", [("content-type", kind)])
        for one in (value, rows, b"ARROW1", bytes(8 * MIB), b"")
        for kind in (b"application/vnd.apache.arrow.file", b"application/vnd.apache.arrow.stream", b"application/json")
    ]
    neighbours_do_not_notice(target, random, hostile)


class Forgetful(JsonEventDecoder):
    """Leaves the row as it was where it should have refused."""

    def decode(self, key: bytes | None, value: bytes, row: Any) -> str:
        try:
            return super().decode(key, value, row)
        except Rejected:
            row[:] = 0.5
            return "T-1"


class Sticky(JsonEventDecoder):
    """After a refusal the next event gets a wrong number."""

    spoilt = False

    def decode(self, key: bytes | None, value: bytes, row: Any) -> str:
        try:
            track_id = super().decode(key, value, row)
        except Rejected:
            self.spoilt = True
            raise
        if self.spoilt:
            row[0] = 0.123
        return track_id


class Crashing(JsonEventDecoder):
    """Raises what the pipeline does not expect."""

    def decode(self, key: bytes | None, value: bytes, row: Any) -> str:
        if b"\xff" in value:
            raise UnicodeError("not expected")
        return super().decode(key, value, row)


class Slow(JsonEventDecoder):
    """Takes quadratic time for quotes."""

    def decode(self, key: bytes | None, value: bytes, row: Any) -> str:
        if value.count(b'"') > MAX_JSON_BYTES // 4:
            began_s = time.thread_time()
            while time.thread_time() - began_s < 1.1:
                pass
        return super().decode(key, value, row)


@pytest.mark.parametrize("wrong", [Forgetful, Sticky, Crashing, Slow])
def test_a_wrong_decoder_is_caught(wrong: type[JsonEventDecoder]):
    usual = TARGETS["json"]
    target = Target(**{**usual.__dict__, "decoder": wrong})
    with pytest.raises((AssertionError, UnicodeError)):
        for number in range(2 * target.tortures):
            decode_agrees(target, LAYOUT, None, target.torture(Random(number), number))
        for seed in range(ROUNDS):
            random = Random(seed)
            hostile = [FakeRecord(0, target.spoiled(random, target.valid(random, LAYOUT, "T-1"))) for _ in range(20)]
            neighbours_do_not_notice(target, random, hostile)
