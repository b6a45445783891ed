"""The threshold table: what it reads, what it refuses and says, and the version it gets."""

import hashlib
import math

import numpy as np
import pytest

from streamer.core.thresholds import BadThreshold, ThresholdTable, threshold_text

TAGS = ("indie-rock", "électro", "bass-guitar")
TUNED = {"indie-rock": 0.5, "électro": 0.25, "bass-guitar": 0.1}


def test_live_values_lie_over_the_tuned():
    table = ThresholdTable.build(TAGS, {"électro": "0.3", "bass-guitar": b"off"}, TUNED)
    assert table.values.tolist() == [0.5, 0.3, math.inf]
    assert table.canonical == '{"bass-guitar":"off","indie-rock":"0.500000","électro":"0.300000"}'
    assert table.version == hashlib.sha256(table.canonical.encode()).hexdigest()[:12]
    assert table.as_hash() == {"indie-rock": "0.500000", "électro": "0.300000", "bass-guitar": "off"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("0.5", "0.500000"), ("1", "1.000000"), ("5e-2", "0.050000"), (" 0.5 \n", "0.500000"), ("+.5", "0.500000"),
        ("1.", "1.000000"), (b"0.3333335", "0.333334"), (0.1234567, "0.123457"), (1, "1.000000"), (0, "0.000000"),
        ("-0", "0.000000"), (-0.0, "0.000000"), ("off", "off"), (b"off\n", "off"), (np.float32(0.5), "0.500000"),
        ("1e-400", "0.000000"),
    ],
)  # fmt: skip
def test_reads(given, text):
    assert threshold_text("a", given) == text


@pytest.mark.parametrize(
    "given",
    [
        "1.0000001", "-0.1", "nan", "inf", "-inf", "1e400", "", " ", "OFF", "Off", "on", "0,5", "1_0", "0x1", "٠.٥",
        "0.5 0.6", True, None, [], 2, -1, 10**400, float("nan"), float("inf"), -1e-9, b"\xff", "9" * 5000,
    ],
)  # fmt: skip
def test_refuses(given):
    with pytest.raises(BadThreshold) as refused:
        ThresholdTable.build(TAGS, {"indie-rock": given}, TUNED)
    assert refused.value.tag == "indie-rock"
    assert "indie-rock" in refused.value.message
    assert len(refused.value.message) < 300


def test_an_unknown_tag_is_refused_with_its_nearest():
    with pytest.raises(BadThreshold, match="nearest: indie-rock") as refused:
        ThresholdTable.build(TAGS, {"indie-rok": "0.5"}, TUNED)
    assert refused.value.tag == "indie-rok"


def test_a_capital_off_is_explained():
    with pytest.raises(BadThreshold, match="lower case"):
        threshold_text("a", "OFF")


def test_a_tag_with_no_value_at_all_is_refused():
    with pytest.raises(BadThreshold, match="électro"):
        ThresholdTable.build(TAGS, {"indie-rock": 0.5}, {"bass-guitar": 0.5})


def test_canonical_reads_back():
    table = ThresholdTable.build(TAGS, {}, TUNED)
    again = ThresholdTable.from_canonical(TAGS, table.canonical)
    assert (again.version, again.canonical) == (table.version, table.canonical)
    assert again.values.tolist() == table.values.tolist()


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"indie-rock":"0.5"}', '{"x":"0.5"}', "[" * 10_000])
def test_what_is_not_this_vocabulary_s_table_is_refused(text):
    with pytest.raises(BadThreshold):
        ThresholdTable.from_canonical(TAGS, text)


def test_values_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        ThresholdTable.build(TAGS, {}, TUNED).values[0] = 0.0
