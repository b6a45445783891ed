"""Measurements on real parts; each asserts its outputs before it reports a figure."""
