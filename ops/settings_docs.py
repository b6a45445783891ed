"""Keeps README's settings table in step with `streamer.settings`: run as `python -m ops.settings_docs`."""

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from streamer.settings import Settings

BEGIN, END = "<!-- settings: made by `python -m ops.settings_docs` -->", "<!-- end of settings -->"
README = Path(__file__).parent.parent / "README.md"


def settings_table() -> str:
    """The table, markers included."""
    rows = [
        f"| `TAGSTREAM_{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join([BEGIN, "| variable | default | what it is |", "|---|---|---|", *rows, END])


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "host-pid"
    value = field.default
    text = value.get_secret_value() if isinstance(value, SecretStr) else str("" if value is None else value)
    return f"`{text}`" if text else ""


def with_settings(readme: str) -> str:
    """README's text with the table of now between its markers."""
    before, _, rest = readme.partition(BEGIN)
    return before + settings_table() + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text(encoding="utf-8")), encoding="utf-8")
