"""A simulated world of music: which tags go together, how often each comes, and an upstream that heard them badly.

A *world* follows from `Shape` alone; catalogues of any size are drawn from it, so two catalogues of different seeds are
other tracks of the same music under the same upstream. What decides a track's tags is its *character*, mostly its
artist's. Tags of like character sound alike, some tags are plainer to hear than others, and the upstream is three
separate low-rank taggers, one per class, fitted to an earlier catalogue with missing labels, as real ones are.

The defaults are calibrated: `tests/unit/test_synthetic_aims.py` holds the aims, measured on real tag sets, and
computes them again. Knows nothing of files, nor of the network that will be trained on this.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from model.tag_names import BY_CLASS, tags_and_categories
from model.thresholds import shift_to_mean
from model.vocabulary import CLASSES, Vocabulary

Array = NDArray[np.float32]
SMALLEST_SHARE = 1e-4  # of tracks: a tag that an earlier catalogue never had is still not impossible


@dataclass(frozen=True)
class Shape:
    """What a world of this kind is like; everything of it follows from these numbers."""

    world: int = 0  # the seed of the world; a catalogue has a seed of its own
    tags_per_track: tuple[float, float, float] = (2.97, 2.56, 2.38)  # genres, instruments, moods
    spread: tuple[float, float, float] = (1.2, 1.1, 0.66)  # of log frequency: Gini about .6, .55, .35
    most_frequent: float = 0.30
    rarest: float = 0.0015
    latent: int = 24  # dimensions of a track's musical character
    pull: tuple[float, float, float] = (2.15, 1.48, 1.75)  # how strongly character decides tags
    richness: tuple[float, float, float] = (0.3, 2.0, 0.3)  # a common factor: rich tracks have many tags of a class
    decay: float = 1.2  # of the weight of later dimensions of character: the first ones dominate
    artist_share: float = 0.75  # of the variance of character that an artist's tracks share
    tracks_per_artist: float = 15.0
    same_as_before: float = 0.44  # a track that repeats the tags of the artist's last one
    audio: int = 14  # dimensions in which the tags of a class sound: few, so a tag is heard through its likes
    alike: float = 0.2  # share of a tag's sound that follows from its character
    plainness: float = 0.1  # spread of the log of how loud a tag is in the audio
    familiar: float = 0.35  # exponent of its frequency there: what the many do is plain to hear
    artist_shift: float = 0.41  # production: an artist's own sound, per dimension
    noise: float = 0.572  # of a track's audio, per dimension; the sound of a tag of median frequency has length 1
    unheard: float = 0.10  # labelled tags that leave no trace in the audio
    missed: float = 0.20  # positive labels missing where the upstream was fitted
    rank: int = 12  # of the upstream's last layer, per class
    over_confidence: float = 0.8  # added to every upstream logit
    jitter: float = 0.1  # of the over-confidence, per tag
    population: int = 6_000  # independent tracks over which frequencies and the upstream's mean are set
    earlier_tracks: int = 4_500  # that the upstream was fitted to
    fit_steps: int = 150


@dataclass(frozen=True)
class Tagger:
    """One class of the upstream: audio `[N, A]` to numbers of its tags, then of its categories."""

    inner: Array  # [A, rank]
    outer: Array  # [rank, tags + categories]
    offset: Array  # [tags + categories]

    def logits(self, audio: Array) -> Array:
        return np.asarray(audio @ self.inner @ self.outer + self.offset, dtype=np.float32)

    def probabilities(self, audio: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-self.logits(audio))), dtype=np.float32)


@dataclass(frozen=True)
class World:
    vocabulary: Vocabulary
    loadings: Array  # [latent + 1, T]; the last row is richness
    base: Array  # [T]
    sound: Array  # [T, A] what a tag sounds like, A = classes * audio
    taggers: tuple[Tagger, ...]


@dataclass(frozen=True)
class Catalogue:
    artists: NDArray[np.int32]  # [N], from 0 on
    labels: NDArray[np.uint8]  # [N, T]
    audio: Array  # [N, A]


def make_world(shape: Shape) -> World:
    """Everything that does not depend on the catalogue."""
    rng = np.random.default_rng([shape.world, 0])
    lists = {name: tags_and_categories(name) for name in BY_CLASS}
    vocabulary = Vocabulary.build({name: {"tags": t, "categories": c} for name, (t, c, _) in lists.items()})
    loadings = [_loadings(lists[name][2], index, shape, rng) for index, name in enumerate(CLASSES)]
    frequency = [_frequencies(len(lists[name][0]), index, shape, rng) for index, name in enumerate(CLASSES)]
    sound = _sounds(loadings, frequency, shape, rng)
    decides = np.concatenate(loadings, axis=1)
    # Without artists: a few hundred of them would be a poor sample of what music there is.
    character = rng.normal(size=(shape.population, shape.latent + 1)).astype(np.float32)
    base = shift_to_mean(character @ decides, np.concatenate(frequency)).astype(np.float32)
    silent = World(vocabulary, decides, base, sound, ())
    return replace(silent, taggers=_fit_taggers(silent, shape, rng))


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


def _sounds(
    loadings: list[Array], frequency: list[NDArray[np.float64]], shape: Shape, rng: np.random.Generator
) -> Array:
    """What each tag sounds like `[T, classes * audio]`, each class in dimensions of its own.

    Were they shared, the other classes' taggers would hear what a tag's own tagger has no room for, and a re-scorer
    would gain several times what it does on real data.
    """
    sounds = []
    median = np.median(np.concatenate(frequency))
    for index, (decides, often) in enumerate(zip(loadings, frequency, strict=True)):
        of_character = _unit(decides[:-1].T @ rng.normal(size=(shape.latent, shape.audio)))
        of_itself = _unit(rng.normal(size=of_character.shape))
        own = _unit(np.sqrt(shape.alike) * of_character + np.sqrt(1 - shape.alike) * of_itself)
        own *= np.exp(shape.plainness * rng.normal(size=(len(own), 1)))
        own *= (often[:, None] / median) ** shape.familiar
        before = index * shape.audio
        sounds.append(np.pad(own, ((0, 0), (before, len(loadings) * shape.audio - before - shape.audio))))
    return np.concatenate(sounds).astype(np.float32)


def _unit(rows: NDArray) -> NDArray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


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


def _fit_taggers(world: World, shape: Shape, rng: np.random.Generator) -> tuple[Tagger, ...]:
    """Three low-rank logistic taggers, fitted to labels of which a part is missing; then made over-confident."""
    earlier = draw(world, shape, shape.earlier_tracks, rng)
    annotated = earlier.labels * (rng.random(earlier.labels.shape, dtype=np.float32) >= shape.missed)
    independent = draw(world, replace(shape, tracks_per_artist=1.0), shape.population, rng)
    taggers = []
    for index in range(len(CLASSES)):
        fitted = _fit_tagger(earlier.audio, _targets(world, annotated, index), shape, rng)
        # First the right mean, of every tag and category, then too high on purpose.
        share = np.maximum(_targets(world, independent.labels, index).mean(axis=0), SMALLEST_SHARE)
        right = shift_to_mean(fitted.logits(independent.audio), share)
        hot = shape.over_confidence + shape.jitter * rng.normal(size=len(share))
        taggers.append(replace(fitted, offset=(fitted.offset + right + hot).astype(np.float32)))
    return tuple(taggers)


def _targets(world: World, labels: NDArray[np.uint8], class_index: int) -> Array:
    """What a tagger shall say: its tags, then its categories, which a track has where it has a tag of them."""
    tags = labels[:, np.array(world.vocabulary.tag_class) == class_index]
    category_of = np.array(tags_and_categories(CLASSES[class_index])[2])
    categories = [tags[:, category_of == category].any(axis=1) for category in range(category_of.max() + 1)]
    return np.column_stack([tags, *categories]).astype(np.float32)


def _fit_tagger(audio: Array, targets: Array, shape: Shape, rng: np.random.Generator) -> Tagger:
    frequency = np.clip(targets.mean(axis=0), SMALLEST_SHARE, 1 - SMALLEST_SHARE)
    inner = torch.tensor(rng.normal(size=(audio.shape[1], shape.rank)) * 0.3, dtype=torch.float32)
    outer = torch.tensor(rng.normal(size=(shape.rank, targets.shape[1])) * 0.3, dtype=torch.float32)
    offset = torch.tensor(np.log(frequency / (1 - frequency)), dtype=torch.float32)
    weights = [weight.requires_grad_() for weight in (inner, outer, offset)]
    optimizer = torch.optim.Adam(weights, lr=0.1)
    heard, wanted = torch.from_numpy(audio), torch.from_numpy(targets)
    with _one_thread():
        for _ in range(shape.fit_steps):
            optimizer.zero_grad()
            logits = heard @ inner @ outer + offset
            torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted).backward()
            optimizer.step()
    return Tagger(*(weight.detach().numpy() for weight in weights))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in the same order whatever the machine has: the world shall not depend on the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
