"""Any vocabulary survives its own JSON, and the stream's layout puts every name where the trainer does."""

from hypothesis import given
from hypothesis import strategies as st

from model.vocabulary import CLASSES, LISTS, Vocabulary
from streamer.core.layout import Layout

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8)


@st.composite
def vocabularies(draw):
    tags = draw(st.lists(names, unique=True, min_size=1, max_size=12))
    homes = draw(st.lists(st.sampled_from(CLASSES), min_size=len(tags), max_size=len(tags)))
    categories = {name: draw(st.lists(names, unique=True, max_size=3)) for name in CLASSES}
    return Vocabulary.build(
        {
            name: {
                "tags": [tag for tag, home in zip(tags, homes, strict=True) if home == name],
                "categories": categories[name],
            }
            for name in CLASSES
        }
    )


@given(vocabularies())
def test_round_trip(vocabulary):
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary and again.fingerprint == vocabulary.fingerprint


@given(vocabularies())
def test_the_stream_has_the_same_columns(vocabulary):
    layout = Layout.build(vocabulary.fingerprint, vocabulary.to_dict())
    assert layout.tags == vocabulary.tags and layout.n_inputs == vocabulary.n_inputs
    assert layout.tag_class == vocabulary.tag_class
    assert [(piece.field, piece.start, piece.stop) for piece in layout.lists] == [
        (group.name, group.start, group.stop) for group in vocabulary.groups
    ]
    assert len(vocabulary.groups) == len(CLASSES) * len(LISTS)
