"""A search on a real Redis: resumed from its log alone, blind to what could be unpickled, and plain when it is lost."""

import pickle
import sys
import uuid
from pathlib import Path

import pytest
import redis

from model import search, search_storage
from model.search_space import SPACES
from ops.cli import main as cli
from tests.fixtures_services import OwnServices
from tests.model_data import make_dataset, write_dataset
from tests.search_data import TINY, TRACKS

pytestmark = pytest.mark.redis


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_search_goes_on_from_its_log_and_unpickles_nothing(redis_url: str, tmp_path: Path):
    name = f"s-{uuid.uuid4().hex[:8]}"
    client = redis.Redis.from_url(redis_url)
    exploded = tmp_path / "exploded"
    client.set(f"{search_storage.REDIS_PREFIX}:{name}:snapshot", pickle.dumps(Bomb(exploded)))
    values = []
    for trials in 1, 2:  # each as a process of its own would
        storage = search_storage.open_storage(redis_url, name)
        opened = search.open_search(storage, name, TINY, make_dataset(TRACKS), seed=0)
        search.run(opened, trials)
        values.append([trial.value for trial in opened.study.trials])
    assert values[1][0] == values[0][0] and len(values[1]) == 2
    assert not exploded.exists()
    for key in client.scan_iter(f"{search_storage.REDIS_PREFIX}:{name}:*"):
        client.delete(key)


def test_a_redis_that_goes_away_is_told_in_one_sentence(own_services: OwnServices, tmp_path: Path, monkeypatch, capsys):
    services = own_services(kafka=False)
    write_dataset(tmp_path / "data", make_dataset(TRACKS))
    real = search._fit_fold

    def fit_and_lose(*arguments):
        services.stop()
        return real(*arguments)

    monkeypatch.setattr(search, "_fit_fold", fit_and_lose)
    monkeypatch.setitem(SPACES, "tiny", TINY)
    monkeypatch.setenv("TAGSTREAM_MODELS_DIR", str(tmp_path / "models"))
    words = ["--data", tmp_path / "data", "--space", "tiny", "--trials", 2, "--storage", services.redis_url]
    monkeypatch.setattr(sys, "argv", ["tagstream", "search", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code == 1 and "The storage of the search was lost" in shown.err
    assert len(shown.err.strip().splitlines()) == 1 and shown.out == ""
