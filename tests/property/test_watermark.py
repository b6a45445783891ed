"""The watermark under every order of acknowledgements."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.watermark import Watermark


@st.composite
def spans_and_orders(draw):
    lengths = draw(st.lists(st.integers(1, 1_000), min_size=1, max_size=40))
    return lengths, draw(st.permutations(range(len(lengths)))), draw(st.integers(0, len(lengths)))


@given(spans_and_orders())
def test_it_never_passes_an_unacknowledged_span_and_never_stalls_behind_acknowledged_ones(script):
    lengths, order, opened_at_once = script
    mark = Watermark()
    ends: list[int] = []
    tickets: list[int] = []

    def open_next() -> None:
        ends.append((ends[-1] if ends else 0) + lengths[len(ends)])
        tickets.append(mark.open(ends[-1]))

    for _ in range(opened_at_once):
        open_next()
    acknowledged: set[int] = set()
    for place in order:
        while len(tickets) <= place:
            open_next()
        mark.acknowledge(tickets[place])
        acknowledged.add(place)
        contiguous = 0
        while contiguous in acknowledged:
            contiguous += 1
        assert mark.value == (ends[contiguous - 1] if contiguous else None)
    assert mark.value == sum(lengths)


@given(spans_and_orders())
def test_it_keeps_nothing_of_what_it_has_passed(script):
    lengths, order, _ = script
    mark = Watermark()
    tickets = [mark.open(sum(lengths[: n + 1])) for n in range(len(lengths))]
    for place in order:
        mark.acknowledge(tickets[place])
    assert not mark._pending and not mark._done
