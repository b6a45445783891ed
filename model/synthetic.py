"""A simulated catalogue: correlated, long-tailed tags, and an over-confident upstream that heard them badly.

A *world* (which tags go together, how frequent each is, what the upstream has learnt) follows from the seed alone; a
catalogue of any size is then drawn from it. The upstream is three separate low-rank taggers, one per class, fitted to
an earlier catalogue with missing labels, as real ones are. The aims are measured figures of real tag sets; exact
calibration is a later matter. Knows nothing of the network that will be trained on this.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from model.errors import ModelError
from model.tables import ID_COLUMN
from model.tag_names import BY_CLASS, tags_and_categories
from model.thresholds import shift_to_mean
from model.vocabulary import CLASSES, Vocabulary

Array = NDArray[np.float32]
POPULATION = 5_000  # independent tracks over which a tag's frequency is set


@dataclass(frozen=True)
class Shape:
    """What a catalogue of this kind looks like."""

    tags_per_track: tuple[float, float, float] = (3.2, 2.8, 2.6)  # genres, instruments, moods
    spread: tuple[float, float, float] = (1.2, 1.1, 0.66)  # of log frequency: Gini about .6, .55, .35
    most_frequent: float = 0.30
    rarest: float = 0.0015
    latent: int = 24  # dimensions of a track's musical character
    pull: tuple[float, float, float] = (2.3, 1.5, 1.7)  # how strongly character decides tags
    richness: tuple[float, float, float] = (0.3, 2.1, 0.3)  # a common factor: rich tracks have many tags of a class
    decay: float = 1.2  # of the weight of later dimensions of character: the first ones dominate
    artist_share: float = 0.75  # of the variance of character that an artist's tracks share
    tracks_per_artist: float = 15.0
    same_as_before: float = 0.44  # a track that repeats the tags of the artist's last one
    audio: int = 14  # dimensions in which the tags of a class sound: few, so a tag is heard through its likes
    artist_shift: float = 0.1  # production: an artist's own sound, per dimension
    noise: float = 0.34  # of a track's audio, per dimension; a tag's sound has length 1
    unheard: float = 0.10  # labelled tags that leave no trace in the audio
    missed: float = 0.20  # positive labels missing where the upstream was fitted
    rank: int = 12  # of the upstream's last layer, per class
    over_confidence: float = 0.8  # added to every upstream logit
    jitter: float = 0.1  # of the over-confidence, per tag
    earlier_tracks: int = 5_000  # that the upstream was fitted to
    fit_steps: int = 60


@dataclass(frozen=True)
class Tagger:
    """One class of the upstream: audio `[N, A]` to logits of its tags, then of its categories."""

    inner: Array  # [A, rank]
    outer: Array  # [rank, tags + categories]
    offset: Array  # [tags + categories]

    def logits(self, audio: Array) -> Array:
        return np.asarray(audio @ self.inner @ self.outer + self.offset, dtype=np.float32)


@dataclass(frozen=True)
class World:
    vocabulary: Vocabulary
    loadings: Array  # [latent + 1, T]; the last row is richness
    base: Array  # [T]
    sound: Array  # [T, A] what a tag sounds like, A = classes * audio
    taggers: tuple[Tagger, ...]


@dataclass(frozen=True)
class Catalogue:
    artists: NDArray[np.int32]  # [N]
    labels: NDArray[np.uint8]  # [N, T]
    audio: Array  # [N, A]


def synthesize(
    tracks: int,
    seed: int,
    out_dir: Path | str,
    progress: Callable[[str], None] | None = None,
    shape: Shape = Shape(),
) -> dict[str, int]:
    """Write `train/` (three quarters) and `val/` (other artists) into `out_dir`; returns their sizes.

    Raises:
        ModelError: for too few tracks, or a folder that cannot be written.
    """
    if tracks < 20:
        raise ModelError(f"A catalogue needs at least 20 tracks, not {tracks}.")
    tell = progress or (lambda what: None)
    tell("a world")
    world = make_world(seed, shape)
    sizes, first = {"train": tracks - tracks // 4, "val": tracks // 4}, 0
    for index, (split, size) in enumerate(sizes.items()):
        tell(f"{size:,} tracks of {split}")
        rng = np.random.default_rng([seed, 1 + index])
        catalogue = draw(world, shape, size, rng)
        _write(Path(out_dir) / split, world, catalogue, first, index)
        first += size
    return sizes


def make_world(seed: int, shape: Shape) -> World:
    """Everything that does not depend on the catalogue's size."""
    rng = np.random.default_rng([seed, 0])
    lists = {name: tags_and_categories(name) for name in BY_CLASS}
    vocabulary = Vocabulary.build({name: {"tags": t, "categories": c} for name, (t, c, _) in lists.items()})
    loadings = np.concatenate(
        [_loadings(lists[name][2], index, shape, rng) for index, name in enumerate(CLASSES)], axis=1
    )
    frequency = np.concatenate(
        [_frequencies(len(lists[name][0]), index, shape, rng) for index, name in enumerate(CLASSES)]
    )
    sound = _sounds(vocabulary, shape, rng)
    # Without artists: a few hundred of them would be a poor sample of what music there is.
    character = rng.normal(size=(POPULATION, shape.latent + 1)).astype(np.float32)
    base = shift_to_mean(character @ loadings, frequency).astype(np.float32)
    silent = World(vocabulary, loadings, base, sound, ())
    earlier = draw(silent, shape, shape.earlier_tracks, rng)
    return World(vocabulary, loadings, base, sound, _fit_taggers(silent, earlier, shape, rng))


def _sounds(vocabulary: Vocabulary, shape: Shape, rng: np.random.Generator) -> Array:
    """What each tag sounds like `[T, classes * audio]`: length 1, each class in dimensions of its own.

    Were they shared, the other classes' taggers would hear what a tag's own tagger has no room for, and a re-scorer
    would gain several times what it does on real data.
    """
    sound = rng.normal(size=(vocabulary.n_tags, len(CLASSES), shape.audio))
    sound *= np.eye(len(CLASSES))[list(vocabulary.tag_class)][:, :, None]
    sound = sound.reshape(vocabulary.n_tags, -1)
    return (sound / np.linalg.norm(sound, axis=1, keepdims=True)).astype(np.float32)


def _loadings(category_of: list[int], class_index: int, shape: Shape, rng: np.random.Generator) -> Array:
    """How character decides tags `[latent + 1, tags]`: tags of one category point the same way, more or less."""
    centres = rng.normal(size=(max(category_of) + 1, shape.latent))
    own = centres[category_of] + 0.7 * rng.normal(size=(len(category_of), shape.latent))
    own *= (1.0 + np.arange(shape.latent)) ** -shape.decay
    own *= shape.pull[class_index] / np.linalg.norm(own, axis=1, keepdims=True)
    richness = np.full((len(category_of), 1), shape.richness[class_index])
    return np.concatenate([own, richness], axis=1).T.astype(np.float32)


def _frequencies(tags: int, class_index: int, shape: Shape, rng: np.random.Generator) -> NDArray[np.float64]:
    """A long tail: log-normal quantiles, shuffled over the tags."""
    normal = np.sort(rng.normal(size=(200, tags)), axis=1).mean(axis=0)
    share = np.exp(shape.spread[class_index] * normal)
    share *= shape.tags_per_track[class_index] / share.sum()
    return rng.permutation(np.clip(share, shape.rarest, shape.most_frequent))


def _characters(shape: Shape, tracks: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], Array]:
    """Artists `[N]`, contiguous, and each track's character `[N, latent + 1]`: mostly its artist's."""
    mean = shape.tracks_per_artist
    sizes = 1 + rng.negative_binomial(1.2, 1.2 / (1.2 + mean - 1), size=int(2 * tracks / mean) + 20)
    artists = np.resize(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes), tracks)
    width = shape.latent + 1
    shared = rng.normal(size=(artists.max() + 1, width))[artists]
    own = rng.normal(size=(tracks, width))
    character = np.sqrt(shape.artist_share) * shared + np.sqrt(1 - shape.artist_share) * own
    return artists, character.astype(np.float32)


def draw(world: World, shape: Shape, tracks: int, rng: np.random.Generator) -> Catalogue:
    """A catalogue of this world: artists, labels, and the audio that the upstream hears."""
    artists, character = _characters(shape, tracks, rng)
    chance = 1 / (1 + np.exp(-(character @ world.loadings + world.base)))  # [N, T]
    labels = (rng.random(chance.shape, dtype=np.float32) < chance).astype(np.uint8)
    repeats = rng.random(tracks) < shape.same_as_before
    repeats[0] = False
    repeats[1:] &= artists[1:] == artists[:-1]
    source = np.maximum.accumulate(np.where(repeats, 0, np.arange(tracks)))  # the track whose tags are repeated
    labels = labels[source]
    heard = labels * (rng.random(labels.shape, dtype=np.float32) >= shape.unheard)
    width = world.sound.shape[1]
    shift = rng.normal(size=(artists.max() + 1, width))[artists] * shape.artist_shift
    noise = rng.normal(size=(tracks, width)) * shape.noise
    audio = heard @ world.sound + shift + noise
    return Catalogue(artists, labels, audio.astype(np.float32))


def _fit_taggers(world: World, earlier: Catalogue, shape: Shape, rng: np.random.Generator) -> tuple[Tagger, ...]:
    """Three low-rank logistic taggers, fitted to labels of which a part is missing; then made over-confident."""
    annotated = earlier.labels * (rng.random(earlier.labels.shape, dtype=np.float32) >= shape.missed)
    taggers = []
    for index, name in enumerate(CLASSES):
        mine = np.array(world.vocabulary.tag_class) == index
        category_of = np.array(tags_and_categories(name)[2])
        tags = annotated[:, mine]
        categories = np.stack(
            [tags[:, category_of == category].any(axis=1) for category in range(category_of.max() + 1)], axis=1
        )
        targets = np.concatenate([tags, categories], axis=1).astype(np.float32)
        tagger = _fit_tagger(earlier.audio, targets, shape, rng)
        hot = shape.over_confidence + shape.jitter * rng.normal(size=targets.shape[1]) - np.log(1 - shape.missed)
        taggers.append(Tagger(tagger.inner, tagger.outer, (tagger.offset + hot).astype(np.float32)))
    return tuple(taggers)


def _fit_tagger(audio: Array, targets: Array, shape: Shape, rng: np.random.Generator) -> Tagger:
    frequency = np.clip(targets.mean(axis=0), 1e-4, 1 - 1e-4)
    inner = torch.tensor(rng.normal(size=(audio.shape[1], shape.rank)) * 0.3, dtype=torch.float32)
    outer = torch.tensor(rng.normal(size=(shape.rank, targets.shape[1])) * 0.3, dtype=torch.float32)
    offset = torch.tensor(np.log(frequency / (1 - frequency)), dtype=torch.float32)
    weights = [weight.requires_grad_() for weight in (inner, outer, offset)]
    optimizer = torch.optim.Adam(weights, lr=0.1)
    heard, wanted = torch.from_numpy(audio), torch.from_numpy(targets)
    for _ in range(shape.fit_steps):
        optimizer.zero_grad()
        logits = heard @ inner @ outer + offset
        torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted).backward()
        optimizer.step()
    return Tagger(*(weight.detach().numpy() for weight in weights))


def _write(folder: Path, world: World, catalogue: Catalogue, first: int, split: int) -> None:
    """One split in the challenge's own layout."""
    ids = pa.array([f"T-{first + row:06d}" for row in range(len(catalogue.labels))])
    artists = pa.array([f"A-{split}-{artist:05d}" for artist in catalogue.artists])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({ID_COLUMN: ids, "artist": artists}), folder / "tracks.parquet")
        tag = 0
        for tagger, class_name in zip(world.taggers, CLASSES, strict=True):
            lists = world.vocabulary.classes[class_name]
            count = len(lists["tags"])
            probabilities = 1 / (1 + np.exp(-tagger.logits(catalogue.audio)))
            _write_table(folder / f"input_{class_name}_tags_data", ids, lists["tags"], probabilities[:, :count])
            _write_table(
                folder / f"input_{class_name}_categories_data", ids, lists["categories"], probabilities[:, count:]
            )
            labels = catalogue.labels[:, tag : tag + count]
            _write_table(folder / f"output_{class_name}_tags_data", ids, lists["tags"], labels)
            tag += count
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}.") from None


def _write_table(stem: Path, ids: pa.Array, names: tuple[str, ...], values: NDArray) -> None:
    columns = {name: np.ascontiguousarray(values[:, column]) for column, name in enumerate(names)}
    pq.write_table(pa.table({ID_COLUMN: ids, **columns}), stem.with_suffix(".parquet"), compression="zstd")
