"""The systems that `bench peers` compares ours with: one program each, run as a process of its own.

They know nothing of this project but `job`, which needs numpy, orjson and pysimdjson alone: a framework whose pins
do not fit beside ours runs in an environment of its own.
"""
