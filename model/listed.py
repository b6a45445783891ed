"""Each model of a registry in a line: what it is, what names it, and its weighted F1."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.errors import ModelError
from model.manifest import read_manifest
from model.registry import Registry


@dataclass(frozen=True, slots=True)
class Listed:
    """One model; of one that is damaged no more than what is wrong with it."""

    version: str
    aliases: Sequence[str]
    error: str = ""
    network: str = ""  # the architecture
    served: str = ""  # see `model.served`
    fingerprint: str = ""
    tags: int = 0
    weighted_f1: float | None = None
    where: str = ""  # that was measured: valid, or out of fold
    created_at: str = ""


def listed(registry: Registry) -> list[Listed]:
    """All of them, oldest first.

    Raises:
        ModelError: where the aliases cannot be read.
    """
    aliases = registry.aliases()
    found = []
    for version in registry.versions():
        names = sorted(alias for alias, target in aliases.items() if target == version)
        try:
            manifest = read_manifest(registry.models_dir / version)
        except ModelError as error:
            found.append(Listed(version, names, str(error)))
            continue
        figures, network = manifest.get("metrics", {}), manifest["network"]["architecture"]
        measured = figures.get("valid") or figures.get("out_of_fold") or {}
        found.append(
            Listed(
                version,
                names,
                network=network,
                served=figures.get("served") or network,
                fingerprint=manifest["fingerprint"],
                tags=len(manifest["thresholds"]),
                weighted_f1=measured.get("weighted_f1"),
                where="valid" if figures.get("valid") else "out of fold" if measured else "",
                created_at=str(manifest.get("created_at", "")),
            )
        )
    return found
