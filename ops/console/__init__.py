"""The ops web page: what the stream does now, and the few things that people change while it does."""
