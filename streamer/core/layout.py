"""Where each list of an event lands in a row of the input matrix.

The columns of every `[B, F]` matrix in the product: first the tags of all classes in vocabulary order (so that a
tag's own probability is column `t` for tag `t`), then the categories of all classes. Knows names and positions;
knows nothing of JSON, Kafka or the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CLASSES = ("genres", "instruments", "moods")
LISTS = ("tags", "categories")


@dataclass(frozen=True, slots=True)
class ListSlice:
    """One list of the event, such as `genres.tags`, and its columns `start:stop`."""

    class_name: str
    list_name: str
    names: tuple[str, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.names)

    @property
    def field(self) -> str:
        return f"{self.class_name}.{self.list_name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The vocabulary as columns.

    `lists` holds all six lists in column order, empty ones included; `tags` the T tag names; `tag_class[t]` the
    index into `CLASSES` of tag t.
    """

    fingerprint: str
    lists: tuple[ListSlice, ...]
    tags: tuple[str, ...]
    tag_class: tuple[int, ...]
    n_inputs: int

    @classmethod
    def build(cls, fingerprint: str, classes: Mapping[str, Mapping[str, Sequence[str]]]) -> "Layout":
        """From `{class: {"tags": [...], "categories": [...]}}`; an absent class or list is empty."""
        lists: list[ListSlice] = []
        column = 0
        for list_name in LISTS:
            for class_name in CLASSES:
                names = tuple(classes.get(class_name, {}).get(list_name, ()))
                lists.append(ListSlice(class_name, list_name, names, column))
                column += len(names)
        tags = tuple(name for piece in lists if piece.list_name == "tags" for name in piece.names)
        tag_class = tuple(
            CLASSES.index(piece.class_name) for piece in lists if piece.list_name == "tags" for _ in piece.names
        )
        return cls(fingerprint, tuple(lists), tags, tag_class, column)

    @property
    def n_tags(self) -> int:
        return len(self.tags)
