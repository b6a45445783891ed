"""The stream: probability events in, tag decisions out. `pipeline.py` is the hot path, top to bottom."""
