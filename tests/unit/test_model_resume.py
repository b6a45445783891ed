"""A training that is broken off goes on where it was: real processes, stopped by Ctrl-C and by kill -9."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from model import augment, config, workfolder
from model.dataset import load
from model.device import choose
from model.errors import ModelError
from model.initialise import new_network
from model.training import facts, train
from tests.model_data import SMALL, make_dataset, quick, write_dataset

QUICK = """
epochs = 8
patience = 8
folds = 2
batch = 64
fall_back = false
[network]
width = 16
feedforward = 16
reservoir_units = 8
reservoir_across_units = 8
mlp_width = 16
"""
# The command as it is, but for keeping the part that is named first at once, and waiting for its end then: a fit this
# small is over before it could be broken off.
COMMAND = """
import signal, sys, time
from model import workfolder

signal.signal(signal.SIGINT, signal.default_int_handler)  # what is run in the background ignores Ctrl-C
part = sys.argv.pop(1)
workfolder.Running.due = lambda self: self._name == part  # no other: each time is a file synced to the disk
write = workfolder.WorkFolder.write

def write_and_wait(self, name, *content):
    global part
    write(self, name, *content)
    if name == part:
        part = None  # when it is broken off it may write once more
        time.sleep(600)

workfolder.WorkFolder.write = write_and_wait
from ops.cli.main import main
main()
"""
PATIENCE_S = 400.0  # on a machine that is busy, and whose disk is
EARLIER_S = 5000
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A data set and a configuration."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "quick.toml").write_text(QUICK)
    write_dataset(folder / "data", make_dataset(150))
    return folder


@pytest.fixture
def words(setting):
    return ["train", "--data", setting / "data", "--config", setting / "quick.toml", "--device", "cpu"]


@pytest.fixture(scope="module")
def expected(setting):
    """The weights of a training that ran through."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trained = train(load(setting / "data"), config=config.load(str(setting / "quick.toml")))
    torch.set_num_threads(threads)
    return hashlib.sha256(safetensors.torch.save(trained.network.state_dict())).hexdigest()


def weights_hash(version: Path) -> str:
    return hashlib.sha256((version / "model.safetensors").read_bytes()).hexdigest()


def start(words, models_dir: Path, part: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, part, *map(str, words), "--models-dir", str(models_dir)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(models_dir: Path, part: str) -> None:
    """Until the part of that name is kept."""
    until = time.monotonic() + PATIENCE_S
    while not list(models_dir.glob(f".training-*/{part}.safetensors")):
        assert time.monotonic() < until, f"no {part} within {PATIENCE_S:.0f} s"
        time.sleep(0.002)


@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize(
    ("number", "part"), [(signal.SIGINT, "fold 2 of 2, under way"), (signal.SIGKILL, "all tracks, under way")]
)
def test_broken_off_and_gone_on_with_gives_the_same_weights(run, words, expected, tmp_path, number, part):
    models = tmp_path / "models"
    process = start(words, models, part)
    wait_for(models, part)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    (work,) = models.iterdir()
    assert work.name.startswith(".training-")
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"keptin{work};thesamecommandgoesonfromthere,with--restart" in "".join(err.split())  # lines wrap
        assert "Traceback" not in err
    before = {path.name: path.stat().st_mtime_ns for path in work.glob("*.safetensors")}
    assert "fold 1 of 2.safetensors" in before
    spent = work / workfolder.SPENT
    assert float(json.loads(spent.read_text())[0]) > 0
    spent.write_text(f"[{EARLIER_S}, {EARLIER_S}]")  # as if it had been a long one

    code, out, err = run(*words)
    assert code == 0 and f"Going on where this training was broken off after {EARLIER_S} s" in " ".join(err.split())
    version = out.strip().splitlines()[-1]
    seconds = json.loads((models / version / "manifest.json").read_text())["seconds"]
    assert EARLIER_S < seconds < EARLIER_S + PATIENCE_S, "all stretches count"
    assert f", {seconds:.0f} s\n" in err and f", {seconds:.0f} s" in (models / version / "README.md").read_text()
    assert weights_hash(models / version) == expected
    assert [path.name for path in models.iterdir()] == [version]  # nothing of the work is left


def test_restart_begins_anew(tmp_path):
    with workfolder.open_folder(tmp_path, {"seed": 1}) as work:
        work.write("fold 1 of 2", {"scores": torch.zeros(2)}, {"best_epoch": 1})
    with workfolder.open_folder(tmp_path, {"seed": 1}) as work:
        assert work.parts() == ["fold 1 of 2"]
    with workfolder.open_folder(tmp_path, {"seed": 2}) as work:
        assert work.parts() == []
    with workfolder.open_folder(tmp_path, {"seed": 1}, restart=True) as work:
        assert work.parts() == []
    assert list(tmp_path.iterdir()) == []  # empty ones go again


def test_two_at_the_same_training(tmp_path):
    again = workfolder.open_folder(tmp_path, {})
    with workfolder.open_folder(tmp_path, {}), pytest.raises(ModelError, match="Another process is at this very"):
        again.__enter__()


def test_a_damaged_part_is_learnt_anew(tmp_path):
    with workfolder.open_folder(tmp_path, {}) as work:
        work.write("fold", {"scores": torch.zeros(200)}, {"best_epoch": 1})
        path = work.path / "fold.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        assert work.read("fold") is None


def test_the_key_is_all_that_decides_the_weights():
    dataset, cpu = make_dataset(20), choose("cpu")
    known = facts(dataset, quick(), 0, cpu)
    assert known == facts(make_dataset(20), quick(), 0, cpu)
    others = [
        facts(make_dataset(20, seed=1), quick(), 0, cpu),
        facts(dataset, quick(epochs=3), 0, cpu),
        facts(dataset, quick(), 1, cpu),
        facts(dataset, quick(), 0, torch.device("cuda")),
    ]
    assert known not in others


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(run, words, tmp_path, monkeypatch):
    monkeypatch.setattr(workfolder, "SECONDS_BETWEEN", 0.0)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, usual[1]))  # bytes that a file may have; the kernel sees to it
    try:
        code, out, err = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert code == 1 and out == "" and err.count("\n") == 1
    assert re.fullmatch(r"tagstream: \S+/\.training-\w+/.* cannot be written: File too large\.\n", err)
    assert list((tmp_path / "models").iterdir()) == []


def test_an_unwritable_folder_is_told_before_anything_is_learnt(run, words, tmp_path):
    (tmp_path / "models").write_text("no folder")
    code, out, err = run(*words)
    assert code == 1 and out == "" and err == f"tagstream: {tmp_path / 'models'} cannot be written: Not a directory.\n"


def test_mistakes_of_data_are_one_sentence(run, tmp_path):
    dataset = make_dataset(30)
    write_dataset(tmp_path / "unlabelled", dataset)
    for path in (tmp_path / "unlabelled").glob("output_*"):
        path.unlink()
    write_dataset(tmp_path / "empty", dataset.take(np.arange(0)))
    write_dataset(tmp_path / "half" / "train", dataset)
    write_dataset(tmp_path / "half" / "val", dataset.take(np.arange(0)))
    for name, words in (("unlabelled", "has no labels"), ("empty", "has no rows"), ("half", "has no rows")):
        code, out, err = run("train", "--data", tmp_path / name)
        assert code == 1 and out == "" and words in err and err.count("\n") == 1, (name, err)
    write_dataset(tmp_path / "one", dataset.take(np.arange(1)))
    assert run("train", "--data", tmp_path / "one")[0] == 0


def test_no_gpu_is_told():
    assert choose("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ModelError, match="is not a device"):
        choose("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no GPU"):
            choose("cuda")


def test_a_swapped_residual_leaves_what_the_labels_explain():
    dataset = make_dataset(300)
    logits, labels = torch.logit(torch.from_numpy(dataset.probabilities)), torch.from_numpy(dataset.labels).float()
    classes = new_network(SMALL, quick().network, 0).classes
    swap, rows = augment.ResidualSwap(logits, labels, classes), torch.arange(300)
    assert (swap.near != rows[:, None]).all()
    assert torch.equal(swap(logits, rows, 0.0, torch.Generator().manual_seed(0)), logits)
    swapped = swap(logits, rows, 1.0, torch.Generator().manual_seed(0))
    donors = []
    for columns in classes:
        theirs = (swapped - (logits - swap.residuals))[:, columns]  # somebody's residual, as it is
        nearest = torch.cdist(theirs, swap.residuals[:, columns]).min(dim=1)
        assert (nearest.values < 1e-2).all() and (nearest.indices != rows).float().mean() > 0.9
        donors.append(nearest.indices)
    assert (donors[0] != donors[1]).float().mean() > 0.9


def test_the_nearest_in_a_catalogue_larger_than_the_pool(monkeypatch):
    monkeypatch.setattr(augment, "POOL", 100)
    points = torch.randn(250, 3, generator=torch.Generator().manual_seed(0))
    near = augment._nearest(points)
    assert near.shape == (250, augment.NEAREST) and (near % 3 == 0).all() and (near != torch.arange(250)[:, None]).all()
    distances = (points[:, None] - points[near]).norm(dim=2)
    others = torch.cdist(points, points[::3])
    others[::3].fill_diagonal_(torch.inf)
    assert torch.allclose(
        distances.max(dim=1).values, others.topk(augment.NEAREST, largest=False).values[:, -1], atol=1e-4
    )
