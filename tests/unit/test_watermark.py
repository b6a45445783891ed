"""The contiguous watermark: what may be committed, and when."""

from streamer.core.watermark import Watermark


def test_nothing_may_be_committed_before_the_first_acknowledgement():
    mark = Watermark()
    mark.open(10)
    assert mark.value is None


def test_acknowledged_in_order_it_follows():
    mark = Watermark()
    first, second = mark.open(10), mark.open(25)
    mark.acknowledge(first)
    assert mark.value == 10
    mark.acknowledge(second)
    assert mark.value == 25


def test_it_waits_for_the_one_before():
    mark = Watermark()
    first, second, third = mark.open(10), mark.open(20), mark.open(30)
    mark.acknowledge(third)
    mark.acknowledge(second)
    assert mark.value is None
    mark.acknowledge(first)
    assert mark.value == 30


def test_holes_in_the_offsets_are_not_gaps():
    """A compacted topic or an aborted transaction delivers 3, 4, 900: nothing is missing between."""
    mark = Watermark()
    tickets = [mark.open(4), mark.open(901)]
    for ticket in tickets:
        mark.acknowledge(ticket)
    assert mark.value == 901
