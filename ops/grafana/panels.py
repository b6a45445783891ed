"""What the dashboards show: titles, queries and units, without Grafana's words for them (`make_dashboards.py`).

Every query is of one job (`$job`) and asks for what a worker really exports: a test has a real Prometheus scrape two
workers and expects an answer to each.
"""

from dataclasses import dataclass

OF = 'job="$job"'
EVERY = "$__rate_interval"

PER_SECOND, SECONDS, SHARE, NUMBER, BYTES = "cps", "s", "percentunit", "short", "bytes"  # Grafana's names for units


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph over time, or with `now` one number."""

    title: str
    why: str
    unit: str
    queries: tuple[Query, ...]
    now: bool = False
    alarm_above: float | None = None
    full_share: bool = False  # its axis ends at 1
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard: rows of panels."""

    uid: str
    title: str
    why: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def rate(counter: str, by: str = "", **labels: str) -> str:
    """The sum of a counter's rates, per second."""
    chosen = ",".join([OF, *(f'{name}="{value}"' for name, value in labels.items())])
    return f"sum {f'by ({by}) ' if by else ''}(rate({counter}{{{chosen}}}[{EVERY}]))"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """A quantile of a histogram, over all workers."""
    names = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', names)})"


def moved_most(name: str) -> str:
    """The ten series of a difference that are furthest from 0, of this job."""
    return f"{gauge(name)} and topk(10, abs({gauge(name)}))"


def gauge(name: str) -> str:
    """The series of a gauge, of this job."""
    return f"{name}{{{OF}}}"
