"""What can be wrong with the stream's surroundings, as against what can be wrong with one event (events.py)."""


class TagstreamError(Exception):
    """A condition the worker or a tool cannot go on under, and why, in one sentence without a traceback."""
