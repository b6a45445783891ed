"""The models: whether the one that is served, or would be, is what it says, and whether its thresholds are valid."""

from collections.abc import Iterator

from model.errors import ModelError
from model.registry import CHAMPION, Registry
from ops.doctor.finding import Finding, fail, ok, skip, warn
from ops.errors import OpsError
from ops.thresholds_admin import ThresholdsAdmin
from streamer.settings import Settings

TRAIN = "`tagstream train --data DIR` makes one, `tagstream models promote VERSION` puts it to work"


def check_models(settings: Settings) -> Iterator[Finding]:
    """The active model of Redis, else the champion: files, golden decisions, live table; then who serves what."""
    registry, admin = Registry(settings.models_dir), ThresholdsAdmin(settings)
    versions = registry.versions()
    try:
        active: str | None = admin.named_model()
    except OpsError:
        active = None  # Redis is away, which its own check tells
    try:
        serving = active or registry.aliases().get(CHAMPION, "")
    except ModelError as error:
        yield fail("models", str(error).rstrip("."), "put aliases.json back from a backup, or promote anew")
        return
    if not serving:
        yield fail(
            "models", f"no model is active, and {settings.models_dir} has no champion ({len(versions)} models)", TRAIN
        )
        return
    if serving not in versions:
        what = f"{serving} is {'active' if active else 'champion'}, and not in {settings.models_dir}"
        yield fail("models", what, "copy it there, set TAGSTREAM_MODELS_DIR to the shared folder, or promote another")
        return
    yield _verified(registry, serving)
    if active:
        yield _table(admin)
        yield _agreement(admin, active)


def _verified(registry: Registry, version: str) -> Finding:
    from model.artifact import check_golden

    try:
        artifact = registry.load(version, verify=True)
        within = check_golden(artifact)
    except ModelError as error:
        return fail(
            "models", str(error).rstrip("."), "copy it anew from where it was trained, or `tagstream models rollback`"
        )
    step = f", {within} within one float16 step" if within else ""
    return ok("models", f"{version}: {len(artifact.manifest['files'])} files and golden decisions as recorded{step}")


def _table(admin: ThresholdsAdmin) -> Finding:
    try:
        live = admin.live()
    except OpsError as error:
        return fail(
            "thresholds", str(error).rstrip("."), "a worker puts its last good table back; without one promote again"
        )
    if live.refusal:
        return fail(
            "thresholds", live.refusal, "`tagstream thresholds set`, or HDEL of that field: workers keep the last good"
        )
    return ok("thresholds", f"version {live.table.version}, {len(live.table.tags)} tags")


def _agreement(admin: ThresholdsAdmin, active: str) -> Finding:
    try:
        workers = admin.workers()
    except OpsError:  # a worker's own user may not list the others
        return skip("workers", "this user may not list their heartbeats (+scan)")
    if not workers:
        return skip("workers", "none has a heartbeat in Redis", "`tagstream worker` starts one")
    others = sorted(name for name, beat in workers.items() if beat.get("model") != active)
    if others:
        what = f"{', '.join(others)} of {len(workers)} workers do not serve the active model"
        return warn("workers", what, "`model_failure` in their heartbeats and their logs say why")
    return ok("workers", f"{len(workers)} serve {active}")
