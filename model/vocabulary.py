"""The ordered tags and categories of all classes, and the fingerprint that says two sides mean the same ones.

The column order of every input matrix follows from it: first the tags of all classes, then the categories of all
classes. The stream has its own copy of that rule (`streamer.core.layout`), because neither side may import the
other; a contract test holds the two together. Knows names only, no data and no network.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from model.errors import ModelError

CLASSES = ("genres", "instruments", "moods")
LISTS = ("tags", "categories")
FINGERPRINT_HEX = 12  # characters of the sha256 that are kept


@dataclass(frozen=True)
class Group:
    """One list of one class, such as `genres.categories`, and its input columns `start:stop`."""

    class_name: str
    list_name: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.class_name}.{self.list_name}"


@dataclass(frozen=True)
class Vocabulary:
    """`classes` holds all three classes with both lists each, empty ones included; use `build` to make one."""

    classes: Mapping[str, Mapping[str, tuple[str, ...]]]

    @classmethod
    def build(cls, classes: Mapping[str, Mapping[str, Sequence[str]]]) -> "Vocabulary":
        """From `{class: {"tags": [...], "categories": [...]}}`; an absent class or list is empty.

        Raises:
            ModelError: for an unknown class or list, no tags at all, or a name that comes twice.
        """
        for class_name, lists in classes.items():
            if class_name not in CLASSES:
                raise ModelError(f"'{class_name}' is not a class; the classes are {', '.join(CLASSES)}.")
            for list_name in lists:
                if list_name not in LISTS:
                    raise ModelError(f"'{class_name}.{list_name}' is not a list; the lists are tags and categories.")
        full = {
            class_name: {name: tuple(classes.get(class_name, {}).get(name, ())) for name in LISTS}
            for class_name in CLASSES
        }
        vocabulary = cls(full)
        vocabulary._check_names()
        return vocabulary

    def _check_names(self) -> None:
        if not self.tags:
            raise ModelError("The vocabulary has no tags.")
        seen: dict[str, str] = {}
        for class_name in CLASSES:
            for tag in self.classes[class_name]["tags"]:
                if tag in seen:
                    raise ModelError(
                        f"The tag '{tag}' is in {seen[tag]} and in {class_name}; thresholds are kept by tag name, "
                        "so each name may come once."
                    )
                seen[tag] = class_name
            categories = self.classes[class_name]["categories"]
            if len(set(categories)) != len(categories):
                twice = next(name for name in categories if categories.count(name) > 1)
                raise ModelError(f"The category '{twice}' comes twice in {class_name}.")

    @cached_property
    def tags(self) -> tuple[str, ...]:
        return tuple(tag for class_name in CLASSES for tag in self.classes[class_name]["tags"])

    @cached_property
    def categories(self) -> tuple[str, ...]:
        return tuple(name for class_name in CLASSES for name in self.classes[class_name]["categories"])

    @cached_property
    def tag_class(self) -> tuple[int, ...]:
        """For each tag the index of its class in `CLASSES`."""
        return tuple(index for index, class_name in enumerate(CLASSES) for _ in self.classes[class_name]["tags"])

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All six lists in column order, empty ones included."""
        found: list[Group] = []
        column = 0
        for list_name in LISTS:
            for class_name in CLASSES:
                stop = column + len(self.classes[class_name][list_name])
                found.append(Group(class_name, list_name, column, stop))
                column = stop
        return tuple(found)

    def columns_of(self, class_name: str) -> list[int]:
        """The input columns of a class: its tags, then its categories."""
        mine: Iterator[Group] = (group for group in self.groups if group.class_name == class_name)
        return [column for group in mine for column in range(group.start, group.stop)]

    @property
    def n_tags(self) -> int:
        return len(self.tags)

    @property
    def n_inputs(self) -> int:
        return len(self.tags) + len(self.categories)

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:FINGERPRINT_HEX]

    def to_json(self) -> str:
        """The canonical JSON: keys sorted, no spaces, all classes and lists present."""
        return json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, dict[str, list[str]]]:
        return {
            class_name: {list_name: list(names) for list_name, names in lists.items()}
            for class_name, lists in self.classes.items()
        }

    @classmethod
    def from_json(cls, source: str | Mapping[str, Any]) -> "Vocabulary":
        """From canonical JSON or the object it holds.

        Raises:
            ModelError: where it is not a vocabulary.
        """
        try:
            value = json.loads(source) if isinstance(source, str) else source
            lists = {
                class_name: {name: tuple(str(item) for item in items) for name, items in lists.items()}
                for class_name, lists in value.items()
            }
        except (ValueError, AttributeError, TypeError):
            raise ModelError("The vocabulary is not JSON of the form {class: {tags: [...]}}.") from None
        return cls.build(lists)
