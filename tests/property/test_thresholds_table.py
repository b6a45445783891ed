"""A table's version names its effective numbers: not their order, not who wrote them, not how."""

import math

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.thresholds import ThresholdTable

NAMES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=8, unique=True)
VALUE = st.one_of(st.floats(0, 1), st.just("off"))
TABLES = NAMES.flatmap(lambda names: st.fixed_dictionaries({name: VALUE for name in names}))


@given(TABLES, st.randoms())
def test_version_does_not_depend_on_order_or_source(table: dict, random):
    tags = list(table)
    shuffled = list(table.items())
    random.shuffle(shuffled)
    live = dict(shuffled[: len(shuffled) // 2])
    one = ThresholdTable.build(tags, table, {})
    two = ThresholdTable.build(list(reversed(tags)), live, dict(reversed(shuffled)))
    assert one.version == two.version
    assert one.canonical == two.canonical


@given(TABLES)
def test_stable_under_reparse(table: dict):
    built = ThresholdTable.build(list(table), table, {})
    for again in (
        ThresholdTable.from_canonical(built.tags, built.canonical),
        ThresholdTable.build(built.tags, built.as_hash(), {}),
        ThresholdTable.build(built.tags, {tag: text.encode() for tag, text in built.as_hash().items()}, {}),
    ):
        assert again.version == built.version
        assert again.values.tolist() == built.values.tolist()


@given(TABLES)
def test_values_are_rounded_to_six_decimals(table: dict):
    built = ThresholdTable.build(list(table), table, {})
    for value, given_value in zip(built.values.tolist(), table.values(), strict=True):
        if given_value == "off":
            assert value == math.inf
        else:
            assert value == round(given_value, 6)


@given(st.floats(0, 1), st.sampled_from(["{!r}", "{:.17f}", "{:.20e}", " {!r}\n", "+{!r}"]))
def test_the_way_a_number_is_written_does_not_matter(number: float, form: str):
    written = ThresholdTable.build(["a"], {"a": form.format(number)}, {})
    assert written.version == ThresholdTable.build(["a"], {"a": round(float(form.format(number)), 6)}, {}).version
