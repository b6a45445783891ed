"""The vocabulary's fingerprint, held to vectors that were worked out from the contract's own words."""

import hashlib

import pytest

from model.errors import ModelError
from model.vocabulary import Vocabulary

CANONICAL = (
    '{"genres":{"categories":["énergie"],"tags":["rock","jazz"]},'
    '"instruments":{"categories":[],"tags":[]},"moods":{"categories":[],"tags":["calm"]}}'
)


def test_canonical_json_and_fingerprint():
    vocabulary = Vocabulary.build(
        {"moods": {"tags": ["calm"]}, "genres": {"tags": ["rock", "jazz"], "categories": ["énergie"]}}
    )
    assert vocabulary.to_json() == CANONICAL
    assert vocabulary.fingerprint == hashlib.sha256(CANONICAL.encode("utf-8")).hexdigest()[:12]
    assert vocabulary.fingerprint == "eb97597ec707"


def test_order_matters():
    one = Vocabulary.build({"genres": {"tags": ["rock", "jazz"]}})
    other = Vocabulary.build({"genres": {"tags": ["jazz", "rock"]}})
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"genres": {"tags": ["dark"]}, "moods": {"tags": ["dark"]}}, "'dark' is in genres and in moods"),
        ({"genres": {"tags": ["a", "a"]}}, "'a' is in genres"),
        ({"genres": {"tags": ["a"], "categories": ["c", "c"]}}, "'c' comes twice"),
        ({"styles": {"tags": ["a"]}}, "'styles' is not a class"),
        ({"genres": {"labels": ["a"]}}, "'genres.labels' is not a list"),
        ({}, "no tags"),
    ],
)
def test_refused(classes, words):
    with pytest.raises(ModelError, match=words):
        Vocabulary.build(classes)
