"""Model folders, aliases and names from whoever may write there: read within bounds, or refused in one sentence."""

import ast
import asyncio
import hashlib
import json
import os
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import artifact, manifest
from model.errors import ModelError
from model.manifest import MANIFEST, WEIGHTS
from model.registry import ALIASES, ALIASES_BYTES_MAX, HISTORY, Registry
from streamer.adapters.state_store import StateStore
from streamer.adapters.torch_scorer import RegistryLoader
from streamer.serving import LastGood, ModelUnusable, ServingControl
from tests.fakes import FakeClock, FakeThresholdStore
from tests.model_data import SMALL

ROOT = Path(__file__).resolve().parents[2]
EVIL_NAMES = [
    "../x", "../../etc/passwd",
    "/etc/passwd", "..", ".", "", "a\0b", "20261122T094500Z-1a2b3c4d/../../x", "x" * 1_000_000,
    "20261122T094500Z-1a2b3c4d\n", "\x1b[31mred", "\u202egnp", "models/20261122T094500Z-1a2b3c4d", "~root", "%2e%2e%2f",
    "20261122T094500Z-1a2b3c4d\0",
]  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    network = artifact.fixed_network(SMALL)
    golden = np.random.default_rng(0).random((4, SMALL.n_inputs), dtype=np.float32)
    version = artifact.write(
        network,
        SMALL,
        dict.fromkeys(SMALL.tags, 0.4),
        tmp_path / "models",
        golden_inputs=golden,
        about={},
        extra_files={"README.md": b"a card"},
    )
    made = Registry(tmp_path / "models")
    made.set_alias("champion", version, "ann", "first")
    return made


def folder(registry: Registry) -> Path:
    return registry.path("champion")


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert text.isprintable() and len(text) < 600, text[:700]
    return text


def forge(path: Path, change: Callable[[dict[str, Any]], object], weights: bytes | None = None) -> Path:
    """An artefact changed by somebody who knows how checksums and versions are made; its new folder."""
    body = json.loads((path / MANIFEST).read_text())
    change(body)
    if weights is not None:
        (path / WEIGHTS).write_bytes(weights)
        body["files"][WEIGHTS] = manifest.describe_file(weights)
    body["version"] = f"{path.name[:17]}{manifest.content_digest(body)}"
    (path / MANIFEST).write_text(json.dumps(body))
    return path.rename(path.with_name(body["version"]))


@pytest.mark.parametrize("name", EVIL_NAMES, ids=range(len(EVIL_NAMES)))
def test_a_name_that_leads_elsewhere_is_refused_wherever_it_comes_from(registry: Registry, tmp_path: Path, name: str):
    (tmp_path / "x").mkdir()
    for ask in (registry.resolve, registry.load, registry.path):
        with pytest.raises(ModelError) as refused:
            ask(name)
        one_sentence(refused.value)
    with pytest.raises(ModelError):
        registry.set_alias(name, "champion", "eve", "why not")
    with pytest.raises(ModelError):
        registry.set_alias("challenger", name, "eve", "why not")
    if len(name) < 1000:
        (registry.models_dir / ALIASES).write_text(json.dumps({"champion": name, name: name}))
        with pytest.raises(ModelError) as refused:
            registry.load("champion")
        one_sentence(refused.value)


@pytest.mark.parametrize("name", [name for name in EVIL_NAMES if name], ids=range(len(EVIL_NAMES) - 1))
def test_what_redis_or_the_state_file_names_is_refused_and_the_worker_goes_on(registry: Registry, tmp_path, name: str):
    loader = RegistryLoader(registry.models_dir, "cpu", 1)
    with pytest.raises(ModelUnusable) as refused:
        loader.load(name)
    one_sentence(refused.value)

    async def serve() -> ServingControl:
        store, states = FakeThresholdStore(), StateStore(tmp_path / "state", "w")
        states.save(LastGood(name, "{}", True, 1.0))
        control = ServingControl(store, loader, states, FakeClock())
        await control.refresh()  # names none: what is remembered cannot be used, the champion can
        assert control.current().model.version == registry.resolve("champion")
        store.model = name
        await control.refresh()
        assert control.status.model_failures
        return control

    assert asyncio.run(serve()).current().model.version == registry.resolve("champion")


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, "README.md"])
def test_a_flipped_byte_in_any_file_is_found(registry: Registry, name: str):
    path = folder(registry) / name
    content = path.read_bytes()
    for place in {0, len(content) // 2, len(content) - 1}:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelError) as refused:
            registry.load("champion")
        one_sentence(refused.value)
    path.write_bytes(content)
    registry.load("champion")


def test_links_out_of_the_models_folder_are_not_followed(registry: Registry, tmp_path: Path):
    path = folder(registry)
    moved = path.rename(tmp_path / path.name)
    path.symlink_to(moved)
    with pytest.raises(ModelError, match="leads out of"):
        registry.load(path.name)
    path.unlink()
    moved.rename(path)
    for name, target in ((WEIGHTS, "/dev/zero"), (MANIFEST, "/etc/passwd"), (MANIFEST, MANIFEST)):
        kept = (path / name).rename(path / "kept")
        (path / name).symlink_to(target)
        with pytest.raises(ModelError, match=r"leads out of|cannot be read"):
            artifact.load(path)
        (path / name).unlink()
        kept.rename(path / name)
    within = registry.models_dir / "elsewhere"  # as volumes of orchestrators are laid out
    path.rename(within)
    path.symlink_to(within)
    assert registry.load("champion").version == path.name


def test_a_pipe_is_not_waited_for(registry: Registry):
    path = folder(registry) / WEIGHTS
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModelError, match="is not a file"):
        registry.load("champion")


def test_sizes_are_bounded_before_reading(registry: Registry):
    path = folder(registry)
    for name, size in ((WEIGHTS, manifest.FILE_BYTES_MAX), (MANIFEST, manifest.MANIFEST_BYTES_MAX)):
        kept = (path / name).read_bytes()
        with (path / name).open("r+b") as file:
            file.truncate(size + 1)  # holes: no disk is used
        began_s = time.thread_time()
        with pytest.raises(ModelError, match="are not read"):
            artifact.load(path)
        assert time.thread_time() - began_s < 1
        (path / name).write_bytes(kept)
    for name in (ALIASES, HISTORY):
        with (registry.models_dir / name).open("r+b") as file:
            file.truncate(100 * ALIASES_BYTES_MAX)
    for ask in (registry.aliases, registry.history):
        with pytest.raises(ModelError, match="are not read"):
            ask()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "null", '{"champion": 1}', '{"champion": null}', "\ud800"]
)
def test_aliases_and_manifests_that_are_no_such_thing(registry: Registry, text: str):
    encoded = text.encode("utf-8", "surrogatepass")
    path = folder(registry)
    (registry.models_dir / ALIASES).write_bytes(encoded)
    with pytest.raises(ModelError) as refused:
        registry.aliases()
    one_sentence(refused.value)
    (path / MANIFEST).write_bytes(encoded)
    with pytest.raises(ModelError) as refused:
        artifact.load(path)
    one_sentence(refused.value)


def liars_header() -> bytes:
    entry = {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    header = json.dumps(entry).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "weights",
    [b"", b"\xff" * 8, struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 100) + b"{", b"\0" * 8, liars_header(),
     b"\x80\x04cos\nsystem\n(S'true'\ntR."],
    ids=["empty", "ones", "huge", "short", "zero", "offsets", "pickle"],
)  # fmt: skip
def test_weights_whose_header_lies(registry: Registry, weights: bytes):
    forged = forge(folder(registry), lambda body: None, weights)
    with pytest.raises(ModelError) as refused:
        artifact.load(forged)
    one_sentence(refused.value)


@pytest.mark.parametrize(
    "network",
    [{"mlp_width": 60_000}, {"width": 10**9}, {"layers": 10**9}, {"heads": 0}, {"width": "64"}, {"width": -1},
     {"reservoir_units": 65_536}, {"reservoir_across_units": True}, {"clip_low": float("nan")}, {"dropout": None},
     {"architecture": ["tokens"]}, {"os": "system"}, {"architecture": "linear", "layers": 2**70}],
)  # fmt: skip
def test_a_network_larger_than_its_weights_is_never_built(registry: Registry, network: dict[str, Any]):
    forged = forge(
        folder(registry), lambda body: body.update(network={**body["network"], "architecture": "tokens"} | network)
    )
    began_s = time.thread_time()
    with pytest.raises(ModelError, match=r"network|architecture|attention"):
        artifact.load(forged)
    assert time.thread_time() - began_s < 3


@pytest.mark.parametrize("stated", [None, [], {}, "x", {"bytes": 3}, {"bytes": [], "sha256": {}}])
def test_files_that_are_listed_oddly(registry: Registry, stated: Any):
    path = folder(registry)
    (path / "report").mkdir(exist_ok=True)
    (path / "report" / "a.md").write_text("x")
    forged = forge(path, lambda body: body["files"].update({"report/a.md": stated}))
    with pytest.raises(ModelError) as refused:
        artifact.load(forged)
    one_sentence(refused.value)


def test_the_checksum_is_sha256_of_the_very_bytes_that_are_used(registry: Registry):
    body = json.loads((folder(registry) / MANIFEST).read_text())
    content = (folder(registry) / WEIGHTS).read_bytes()
    assert body["files"][WEIGHTS] == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = re.compile(
    r"(?<!safetensors\.)torch\.load\b|\.load_state_dict_from_url|allow_pickle\s*=\s*True|\beval\(|\bexec\("
    r"|yaml\.(load|unsafe|full|(Unsafe|Full|C?)Loader)|from yaml import"
)


def test_nothing_here_reads_pickles_or_runs_data():
    """Static: every module of the product, imports and calls."""
    for package in ("streamer", "model", "ops"):
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text()
            for node in ast.walk(ast.parse(source)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.partition(".")[0] for name in names} & UNSAFE_MODULES, path
            code = "\n".join(line for line in source.splitlines() if ".eval()" not in line and ".eval(" not in line)
            assert not UNSAFE_CALLS.search(code), (path, UNSAFE_CALLS.search(code))


def test_the_scan_would_see_it():
    assert UNSAFE_CALLS.search("yaml.load(text, yaml.Loader)") and not UNSAFE_CALLS.search("yaml.safe_load(text)")
    assert UNSAFE_CALLS.search("x = torch.load(path)") and UNSAFE_CALLS.search("np.load(f, allow_pickle=True)")
