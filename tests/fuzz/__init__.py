"""Fuzzing of what the world sends: seeds, mutations and judges, shared by `make test` and the long run.

    python -m tests.fuzz --minutes 30 --seed 7     (`make fuzz MINUTES=30 SEED=7`)

A wire format is a `Target`: its decoder, how to make a valid event, how to spoil one, and who judges it thoroughly.
An input that a judge condemns is kept under `corpus/<target>/`, and tried first from then on.
"""
