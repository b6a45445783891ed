"""Versions and aliases: what is there, what a name means, who changed it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from model.artifact import fixed_network, new_artifact
from model.errors import ModelError
from model.registry import Registry
from tests.model_data import SMALL

THRESHOLDS = dict.fromkeys(SMALL.tags, 0.4)


@pytest.fixture
def registry(tmp_path):
    for seed in (0, 1):
        new_artifact(fixed_network(SMALL, seed=seed), SMALL, THRESHOLDS, tmp_path, seed=seed)
    return Registry(tmp_path)


def test_versions_are_complete_artefacts_only(registry):
    versions = registry.versions()
    assert len(versions) == 2 and versions == sorted(versions)
    (registry.models_dir / ".incoming-x").mkdir()
    (registry.models_dir / "20260101T000000Z-00000000").mkdir()  # no manifest
    (registry.models_dir / "notes.txt").write_text("")
    assert registry.versions() == versions
    assert Registry(registry.models_dir / "nowhere").versions() == []


def test_an_alias_resolves_loads_and_moves(registry):
    first, second = registry.versions()
    registry.set_alias("champion", first, who="ann", why="the first")
    registry.set_alias("challenger", second, who="ann", why="to compare")
    registry.set_alias("champion", "challenger", who="bob", why="it won")
    assert registry.aliases() == {"champion": second, "challenger": second}
    assert registry.resolve("champion") == second == registry.load("champion").version
    assert [(e["alias"], e["before"], e["after"], e["who"]) for e in registry.history()] == [
        ("champion", None, first, "ann"),
        ("challenger", None, second, "ann"),
        ("champion", first, second, "bob"),
    ]


def test_aliases_set_at_once_all_survive(registry):
    version = registry.versions()[0]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: registry.set_alias(f"a{n}", version, "ann", "race"), range(20)))
    assert len(registry.aliases()) == 20 == len(registry.history())


def test_unknown_models_get_the_nearest_names(registry):
    first, second = registry.versions()
    registry.set_alias("champion", first, "ann", "")
    for slip, meant in (
        ("champoin", "champion"),
        (first[:-1] + ("0" if first[-1] != "0" else "1"), first),
        (second[:-3], second),
    ):
        with pytest.raises(ModelError, match=f"did you mean .*{meant}"):
            registry.resolve(slip)
    for other in ("challenger", "20200101T000000Z-00000000", "x"):  # nothing of the kind was meant
        with pytest.raises(ModelError, match=f"there are aliases: champion; versions: 2, the newest {second}"):
            registry.resolve(other)
    with pytest.raises(ModelError, match="there are none yet"):
        Registry(registry.models_dir / "nowhere").resolve("champion")


@pytest.mark.parametrize("name", ["../x", "", "Champion", "a b", "a" * 41])
def test_names_that_are_no_aliases(registry, name):
    with pytest.raises(ModelError, match="is not an alias"):
        registry.set_alias(name, registry.versions()[0], "ann", "")


def test_an_alias_to_somewhere_else_leads_nowhere(registry):
    (registry.models_dir / "aliases.json").write_text(json.dumps({"champion": "../../etc"}))
    with pytest.raises(ModelError, match="which is not in"):
        registry.load("champion")


@pytest.mark.parametrize("text", ["{", "[]", '{"champion": 3}'])
def test_damaged_aliases(registry, text):
    (registry.models_dir / "aliases.json").write_text(text)
    with pytest.raises(ModelError, match=r"aliases\.json"):
        registry.aliases()
