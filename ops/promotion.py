"""Which model may take the champion's place, and the way back to the one before.

The champion is the model that Redis names, and where Redis names none the one of the alias. Knows the registry, the
contest of two models and the desk that writes to Redis; the writing itself is `ThresholdsAdmin`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.alias_history import ROLLBACK, named_before
from model.contest import Contest, by_data, by_manifests
from model.dataset import Dataset
from model.errors import ModelError
from model.manifest import learnt_from, read_manifest
from model.registry import CHAMPION, Registry
from ops.errors import OpsError
from ops.thresholds_admin import ThresholdsAdmin, Written


@dataclass(frozen=True, slots=True)
class Weighed:
    """A challenger against the present champion."""

    model: str
    champion: str  # empty where there is none
    contest: Contest | None
    why_not: str = ""  # they cannot be compared


def weigh(
    admin: ThresholdsAdmin,
    registry: Registry,
    name: str,
    dataset: Dataset | None = None,
    data_name: str = "",
    *,
    flattery_allowed: bool = False,
) -> Weighed:
    """The model `name` against the champion: by their manifests, or measured on `dataset`.

    Raises:
        ModelError: for an unknown or damaged model.
        OpsError: where Redis is away, or one of them learnt from the dataset and `flattery` is not `_allowed`.
    """
    model = registry.resolve(name)
    champion = admin.named_model() or registry.aliases().get(CHAMPION, "")
    if champion in ("", model):
        return Weighed(model, champion, None)
    mine = read_manifest(registry.path(model))
    try:
        theirs = read_manifest(registry.path(champion))
    except ModelError:
        return Weighed(model, champion, None, "its manifest cannot be read here")
    if mine["fingerprint"] != theirs["fingerprint"]:
        return Weighed(model, champion, None, "it has another vocabulary")
    if dataset is None:
        contest = by_manifests(theirs, mine)
        return Weighed(model, champion, contest, "" if contest else "they carry no figures of the same data (--data)")
    if not flattery_allowed:
        _refuse_flattery({model: mine, champion: theirs}, dataset, data_name)
    try:
        loaded = registry.load(champion)
    except ModelError as error:  # a damaged champion must stand in nobody's way
        return Weighed(model, champion, None, str(error).rstrip("."))
    return Weighed(model, champion, by_data(loaded, registry.load(model), dataset, data_name))


def _refuse_flattery(manifests: Mapping[str, Mapping[str, Any]], dataset: Dataset, data_name: str) -> None:
    fingerprint = dataset.fingerprint()
    for version, manifest in manifests.items():
        if learnt_from(manifest, fingerprint):
            raise OpsError(
                f"{data_name} is what {version} was trained on, so it flatters: give --data that neither has seen, or "
                "none, and they are compared by what they carry."
            )


def promote(admin: ThresholdsAdmin, weighed: Weighed, why: str, *, force: bool = False) -> Written:
    """Make the weighed model the champion, unless it is worse beyond the noise and that is not `force`d.

    Raises:
        OpsError: it is worse; the champion has changed since it was weighed; no reason is given with `force`.
        ModelError: the artefact is not what it says.
    """
    if force and not why.strip():
        raise OpsError("--force takes a reason: --why 'the reason, for the history'.")
    worse = weighed.contest is not None and weighed.contest.worse
    if worse and weighed.contest is not None:
        if not force:
            raise OpsError(
                f"{weighed.model} is worse than the champion {weighed.champion}: {weighed.contest.sentence()}; to "
                "promote it all the same, give --force and --why."
            )
        why = f"{why} (forced: {weighed.contest.sentence()})"
    return admin.promote(weighed.model, why, instead_of=weighed.champion)


def roll_back(admin: ThresholdsAdmin, registry: Registry, why: str) -> Written:
    """Back to the version that the alias named before, by the path of every promotion.

    Where Redis names another model than the alias does, no promotion of that model was completed: then back to what
    the alias names.

    Raises:
        OpsError: there was none before, or Redis is away.
        ModelError: the version before is gone or damaged.
    """
    named, active = registry.aliases().get(CHAMPION), admin.named_model()
    target = named if named and active not in ("", named) else named_before(registry.changes(CHAMPION))
    if target is None:
        raise OpsError(
            f"There is nothing to roll back to: {CHAMPION} has named no version before {named}."
            if named
            else f"There is nothing to roll back: {CHAMPION} names no version yet."
        )
    left = active or named
    return admin.promote(target, why or f"back from {left}", action=ROLLBACK, instead_of=active)
