"""The long run: `python -m tests.fuzz --minutes N --seed S`. Ends at the first finding, which it keeps, with code 1."""

import argparse
import hashlib
import itertools
import resource
import sys
import time
from random import Random

from streamer.core.events import JSON_CONTENT_TYPE
from tests.fakes import LAYOUT, FakeRecord
from tests.fuzz.judges import any_headers, decode_agrees, headers_are_writable, neighbours_do_not_notice
from tests.fuzz.targets import CORPUS, TARGETS, Target

BATCH = 40
GROWTH_MIB_MAX = 200  # over the whole run
REPORT_S = 10.0


def inputs(target: Target, random: Random) -> list[tuple[bytes | None, bytes]]:
    """A batch of keys and values: spoiled once to five times, tortured, or noise."""
    found = []
    for _ in range(BATCH):
        value = target.valid(random, LAYOUT, "T-1")
        for _ in range(random.randrange(6)):
            value = target.spoiled(random, value)
        if random.random() < 0.02:
            value = target.torture(random, random.randrange(target.tortures))
        found.append((random.choice((None, b"T-1", b"T-1", b"\xff")), value))
    return found


def one_round(target: Target, random: Random) -> int:
    """Judge a batch; how many of it were accepted."""
    hostile, accepted = [], 0
    for key, value in inputs(target, random):
        try:
            accepted += decode_agrees(target, LAYOUT, key, value)
        except Exception:
            keep(target, value)
            raise
        headers = any_headers(random)
        if random.random() < 0.9 and target.content_type != JSON_CONTENT_TYPE:
            headers = [("content-type", target.content_type.encode()), *headers]
        headers_are_writable(headers)
        sent = random.choice((value, value, value, None, b""))
        hostile.append(FakeRecord(0, sent, key, headers))  # type: ignore[arg-type]
    neighbours_do_not_notice(target, random, hostile)
    return accepted


def keep(target: Target, value: bytes) -> None:
    """Put a condemned input where every later run tries it first."""
    path = CORPUS / target.name / f"finding-{hashlib.sha256(value).hexdigest()[:8]}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(value)
    print(f"kept as {path}", file=sys.stderr)


def resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(TARGETS), help="one of them (default: all in turns)")
    arguments = parser.parse_args()
    targets = [TARGETS[arguments.target]] if arguments.target else list(TARGETS.values())
    random = Random(arguments.seed)
    for target in targets:
        for value in target.corpus():
            decode_agrees(target, LAYOUT, None, value)
        one_round(target, random)
    before_mib, began_s, told_s = resident_mib(), time.monotonic(), 0.0
    tried = accepted = 0
    turns = itertools.cycle(targets)
    while (spent_s := time.monotonic() - began_s) < 60 * arguments.minutes:
        accepted += one_round(next(turns), random)
        tried += BATCH
        grown_mib = resident_mib() - before_mib
        assert grown_mib < GROWTH_MIB_MAX, f"{grown_mib:.0f} MiB more than at the start"
        if spent_s - told_s > REPORT_S:
            told_s = spent_s
            print(f"{spent_s:.0f} s: {tried:,} inputs, {accepted:,} accepted, {grown_mib:.0f} MiB more", flush=True)
    names = " and ".join(target.name for target in targets)
    print(f"seed {arguments.seed}: {tried:,} inputs ({names}), {accepted:,} accepted, no finding")


if __name__ == "__main__":
    main()
