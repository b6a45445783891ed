"""The manifest of an artefact: what it says, and the checks that make it trustworthy.

Plain JSON, so that a stranger's file can do nothing but be wrong. Knows names, sizes and checksums; knows nothing
of torch. The last 8 hex of a version are a digest of what decides (weights, network, vocabulary, thresholds), so an
edited manifest gives itself away; reports and metrics are not part of it.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import ModelError
from model.thresholds import number
from model.vocabulary import Vocabulary

FORMAT_VERSION = 1
MANIFEST, WEIGHTS = "manifest.json", "model.safetensors"
VERSION_PATTERN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
FILE_PATTERN = re.compile(r"(report/)?[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
MANIFEST_BYTES_MAX = 16 * 2**20
FILE_BYTES_MAX = 2 * 2**30  # the weights
REPORT_BYTES_MAX = 64 * 2**20  # any other file
NEEDED = ("format", "version", "network", "vocabulary", "features", "thresholds", "files", "golden")


def check_version_name(version: str) -> str:
    """The version itself, where it is one: names become paths, so nothing else may pass.

    Raises:
        ModelError: otherwise.
    """
    if not VERSION_PATTERN.fullmatch(version):
        raise ModelError(f"{version[:80]!r} is not a model version (YYYYMMDDTHHMMSSZ-<8 hex>).")
    return version


def content_digest(parts: dict[str, Any]) -> str:
    """8 hex over everything that decides."""
    deciding = {name: parts[name] for name in ("format", "network", "vocabulary", "features", "thresholds")}
    deciding["weights"] = parts["files"][WEIGHTS]["sha256"]
    text = json.dumps(deciding, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def describe_file(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def features(vocabulary: Vocabulary, clip_low: float, clip_high: float) -> dict[str, Any]:
    """Which columns hold what, and how probabilities are clipped before the logit."""
    return {
        "columns": [{"list": group.name, "start": group.start, "stop": group.stop} for group in vocabulary.groups],
        "clip_low": clip_low,
        "clip_high": clip_high,
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the artefact in `folder`, its form and its own version checked.

    Raises:
        ModelError: where it is missing, too large, not JSON, of another format, or altered.
    """
    path = folder / MANIFEST
    try:
        value = json.loads(read_bounded(path, MANIFEST_BYTES_MAX, within=folder.parent))
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not JSON.") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT_VERSION:
        raise ModelError(f"{path} is not a manifest of format {FORMAT_VERSION}.")
    lacking = next((name for name in NEEDED if name not in value), None)
    if lacking:
        raise ModelError(f"{path} lacks '{lacking}'.")
    try:
        digest = content_digest(value)
        thresholds = dict(value["thresholds"].items())
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(f"{path} is damaged: its files or thresholds are not of the right form.") from None
    if not str(value["version"]).endswith(f"-{digest}"):
        raise ModelError(f"{path} was altered: its content is {digest}, but it says version {value['version']}.")
    if value["version"] != folder.name:
        raise ModelError(f"{path} says version {value['version']}, but its folder is {folder.name}.")
    for tag, threshold in thresholds.items():
        try:
            number(threshold)
        except ValueError as error:
            raise ModelError(f"{path} has a threshold for {tag[:80]!r} that is none: {error}.") from None
    return value


def learnt_from(manifest: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether the model was trained on the data set of this fingerprint, so that it flatters there."""
    data = manifest.get("data")
    return isinstance(data, Mapping) and data.get("fingerprint") == fingerprint


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Every file present, of the stated size and checksum.

    Raises:
        ModelError: naming the first that is not.
    """
    for name in manifest["files"]:
        read_checked(folder, manifest, name)


def read_checked(folder: Path, manifest: Mapping[str, Any], name: str, bytes_max: int = REPORT_BYTES_MAX) -> bytes:
    """The bytes of one file, read once, then checked: what is used is what was checked.

    Raises:
        ModelError: where the manifest lists no such file, or it is larger than allowed, truncated or corrupted.
    """
    if not FILE_PATTERN.fullmatch(name) or name not in manifest["files"]:
        raise ModelError(f"The manifest of {folder.name} lists no file {name[:80]!r} that may be read.")
    stated = manifest["files"][name]
    if not isinstance(stated, dict) or not {"bytes", "sha256"} <= set(stated):
        raise ModelError(f"The manifest of {folder.name} is damaged: {name} has no size and checksum.")
    path = folder / name
    content = read_bounded(path, FILE_BYTES_MAX if name == WEIGHTS else bytes_max, within=folder.parent)
    if len(content) != stated["bytes"]:
        wanted = str(stated["bytes"])[:20]
        raise ModelError(f"{path} is truncated or altered: {len(content)} bytes instead of {wanted}.")
    if hashlib.sha256(content).hexdigest() != stated["sha256"]:
        raise ModelError(f"{path} is corrupted: its checksum is not the manifest's.")
    return content


def read_bounded(path: Path, bytes_max: int, *, within: Path) -> bytes:
    """The bytes of a file that is a file, and lies in the folder `within` after all links are followed.

    Raises:
        ModelError: where it is not, cannot be read, or is larger than allowed.
    """
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(within.resolve()):
            raise ModelError(f"{path} leads out of {within}; it is not followed.")
        with open(os.open(real, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe must not be waited for
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{path} is not a file.")
            content = b"" if status.st_size > bytes_max else file.read(bytes_max + 1)
        if max(status.st_size, len(content)) > bytes_max:
            raise ModelError(f"{path} has {status.st_size} bytes; more than {bytes_max} are not read.")
        return content
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError, a NUL a ValueError
        raise ModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
