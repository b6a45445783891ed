"""A search small enough for tests: one parameter of a linear network, a few tracks."""

from pathlib import Path

from optuna.distributions import FloatDistribution

from model import search, search_storage
from model.search_space import F1, Space
from tests.model_data import make_dataset

TINY = Space("tiny", "linear", F1, {"learning_rate": FloatDistribution(1e-4, 1.0, log=True)})
TRACKS = 120


def open_tiny(journal: Path | str) -> search.Search:
    """The study 's' in a journal file."""
    return search.open_search(search_storage.open_storage(str(journal), "s"), "s", TINY, make_dataset(TRACKS), seed=0)
