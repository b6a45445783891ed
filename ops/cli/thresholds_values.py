"""TAG=VALUE, as people write it on the command line."""

from ops.errors import OpsError


def parse_changes(changes: list[str]) -> dict[str, str]:
    """Tag -> text. What is a tag and what a value, the table says.

    Raises:
        OpsError: a word that is not TAG=VALUE, or a tag that is named twice.
    """
    values: dict[str, str] = {}
    for change in changes:
        tag, equals, value = change.rpartition("=")
        if not equals or not tag:
            raise OpsError(f"{change!r} is not TAG=VALUE, such as jazz=0.35 or live=off.")
        if tag in values:
            raise OpsError(f"{tag!r} is named twice.")
        values[tag] = value
    return values
