"""Training on little: deterministic, blind to the reported split, and never worse than the upstream."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch

from model import artifact, config, metrics
from model.candidates import RULE, UPSTREAM
from model.errors import ModelError
from model.folds import artist_folds
from model.training import FEWEST_TRACKS, train
from tests.model_data import MOODS_ONLY, SMALL, make_dataset, quick

pytestmark = pytest.mark.usefixtures("one_thread")


def weights_hash(trained) -> str:
    return hashlib.sha256(safetensors.torch.save(trained.network.state_dict())).hexdigest()


def test_same_seed_same_weights():
    dataset = make_dataset()
    one, same, other = (train(dataset, config=quick(fall_back=False), seed=seed) for seed in (3, 3, 4))
    assert weights_hash(one) == weights_hash(same) != weights_hash(other)
    assert one.thresholds == same.thresholds


def test_the_reported_split_changes_nothing_that_decides(tmp_path):
    dataset, valid = make_dataset(), make_dataset(60, seed=9)
    shuffled = replace(valid, labels=np.random.default_rng(0).permutation(valid.labels))
    versions = [
        artifact.save(train(dataset, split, quick()), tmp_path / str(index))
        for index, split in enumerate((valid, shuffled, None))
    ]
    assert len({version[-8:] for version in versions}) == 1  # the digest of weights, thresholds, vocabulary
    goldens = [
        artifact.load(tmp_path / str(index) / version).manifest["golden"] for index, version in enumerate(versions)
    ]
    assert goldens[0] == goldens[1] == goldens[2]


@pytest.mark.parametrize("name", list(config.CONFIGS))
def test_every_configuration_trains(name):
    trained = train(make_dataset(150), make_dataset(30, seed=2), quick(name))
    assert set(trained.thresholds) == set(SMALL.tags)
    assert all(0.000001 <= value <= 1 and value == round(value, 6) for value in trained.thresholds.values())
    assert 0 < trained.metrics["valid"]["weighted_f1"] <= 1


def test_one_class_no_categories_no_artists_and_a_tag_without_positives():
    dataset = make_dataset(150, MOODS_ONLY)
    dataset.labels[:, 2] = 0
    trained = train(replace(dataset, artists=None), config=quick(fall_back=False))
    assert trained.thresholds["odd"] == 1.0


@pytest.mark.parametrize("tracks", [1, 5, FEWEST_TRACKS - 1])
def test_few_tracks_get_thresholds_on_the_upstream(tracks):
    trained = train(make_dataset(tracks), config=quick())
    assert trained.metrics["served"] in (RULE, UPSTREAM) and trained.network.config.architecture == "upstream"


def test_no_positive_at_all():
    dataset = make_dataset(150)
    dataset.labels[:] = 0
    assert set(train(dataset, config=quick()).thresholds.values()) == {1.0}


def test_what_is_served_was_best_out_of_fold():
    dataset = make_dataset(400)
    trained = train(dataset, config=quick(epochs=1, learning_rate=3.0, average=0.0, clip_norm=0.0))
    found = trained.metrics["cross_fitted_weighted_f1"]
    assert trained.metrics["served"] == max(found, key=found.get)
    assert trained.metrics["served"] == UPSTREAM  # such a learning rate ruins any network


def test_thresholds_beat_the_half_rule_on_other_artists():
    dataset, valid = make_dataset(900), make_dataset(900).take(np.arange(600, 900))
    trained = train(dataset.take(np.arange(600)), valid, quick(epochs=6))
    figures = trained.metrics
    assert figures["valid"]["weighted_f1"] > figures["valid_benchmark"]["weighted_f1"]
    scores = artifact.score(trained.network, valid.probabilities)
    row = np.array([trained.thresholds[tag] for tag in SMALL.tags])
    assert figures["valid"]["weighted_f1"] == metrics.weighted_f1(valid.labels, scores.astype(np.float64) >= row)


def test_early_stopping_keeps_the_best_epoch():
    trained = train(make_dataset(200), config=quick("linear", epochs=30, patience=2, learning_rate=0.5, average=0.0))
    fit = trained.fits["fold 1 of 2"]
    assert fit.best_epoch == int(np.argmin(fit.held_losses)) + 1
    assert len(fit.held_losses) <= fit.best_epoch + 2


def test_progress_is_told():
    told = []
    train(make_dataset(150), config=quick(), progress=lambda what, done, total: told.append((what, done, total)))
    assert told[0][0].startswith("fold 1 of 2, epoch 1, loss ") and told[0][1:] == (1, 2)


def test_no_labels():
    with pytest.raises(ModelError, match="no labels"):
        train(replace(make_dataset(20), labels=None))


def test_a_reported_split_of_another_vocabulary():
    with pytest.raises(ModelError, match="other columns"):
        train(make_dataset(20), make_dataset(20, MOODS_ONLY))


def test_artists_stay_on_one_side():
    artists = np.repeat(np.arange(50), np.random.default_rng(0).integers(1, 30, 50))
    folds = artist_folds(artists, len(artists), 4, seed=1)
    assert all(len(set(folds[artists == artist])) == 1 for artist in range(50))
    assert set(folds) == {0, 1, 2, 3}
    assert np.bincount(folds).max() < len(artists) / 2
    assert len(set(artist_folds(np.zeros(10), 10, 2, seed=0))) == 2  # one artist only: tracks instead


def test_config_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "demo"\nepochs = 3\nlearning_rate = 1\nsmoothings = [1, 2]\n[network]\nwidth = 32\n')
    mine = config.load(str(path))
    assert (mine.epochs, mine.learning_rate, mine.smoothings) == (3, 1.0, (1.0, 2.0))
    assert mine.network.width == 32 and mine.folds == config.CONFIGS["demo"].folds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = 'ten'", "'epochs' takes int"),
        ("speed = 1", "'speed' is not a setting"),
        ("base = 'none'", "base 'none'"),
        ("network = 3", "takes a table"),
        ("[network]\nspeed = 1", "'speed' is not a setting"),
        ("base = [1]", "base '.1.'"),
        ("epochs = 0", "'epochs' is at least 1, not 0"),
        ("folds = 1", "'folds' is at least 2, not 1"),
        ("learning_rate = -1", "'learning_rate' is more than 0"),
        ("learning_rate = nan", "'learning_rate' is more than 0, not nan"),
        ("weight_decay = inf", "'weight_decay' is at least 0, not inf"),
        ("swap = 1.5", "'swap' is between 0 and 1"),
        ("betas = [0.9, 1]", "'betas' is at least 0 and less than 1, not 1"),
        ("smoothings = []", "'smoothings' takes a list of numbers"),
        ("smoothings = ['x']", "'smoothings' takes a list of numbers"),
        ("smoothings = [-1]", "'smoothings' is at least 0"),
        ("[network]\nmlp_dropout = 2.0", "'mlp_dropout' is at least 0 and less than 1"),
        ("[network]\nclip_low = 0.7", "'clip_low' is more than 0 and less than 0.5"),
        ("[network]\nlayers = -1", "'layers' is at least 0"),
        ("[[", "is not TOML"),
    ],
)
def test_config_mistakes(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match=words):
        config.load(str(path))
    with pytest.raises(ModelError, match="neither a configuration"):
        config.load("nonsense")
