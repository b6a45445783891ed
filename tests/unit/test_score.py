"""`tagstream score`: what it writes, and that no kill, full disk or mistake leaves half of it."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from model.artifact import fixed_network, new_artifact
from model.dataset import Dataset, load
from model.registry import Registry
from model.rows import Rows
from model.vocabulary import Vocabulary
from ops import catalogue
from ops.cli import main as cli
from tests.harness import a_vocabulary
from tests.model_data import SMALL, make_dataset, write_dataset
from tests.scoring import a_run, decided

ROOT = Path(__file__).resolve().parents[2]
TRACKS, PER_PART = 500, 50


@pytest.fixture
def version(tmp_path) -> str:
    thresholds = dict.fromkeys(SMALL.tags, 0.5)
    return new_artifact(fixed_network(SMALL, "upstream"), SMALL, thresholds, tmp_path / "models")


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset(TRACKS)


@pytest.fixture
def data(tmp_path, dataset) -> Path:
    return write_dataset(tmp_path / "data", dataset)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, version, data):
    """Run `tagstream score`; returns exit code, stdout, stderr."""
    monkeypatch.setattr(catalogue, "ROWS_PER_PART", PER_PART)
    monkeypatch.setenv("TAGSTREAM_MODELS_DIR", str(tmp_path / "models"))

    def call(*words: object, data: Path = data):
        arguments = ["tagstream", "score", "--model", version, "--data", data, *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return call


def refused(result, told: str) -> None:
    code, out, err = result
    said = " ".join(err.split())
    assert code == 1 and out == "" and told in said and "Traceback" not in said and said.count("tagstream: ") == 1, err


def beside(out: Path) -> list[str]:
    """What has a name that begins as OUT's."""
    return sorted(path.name for path in out.parent.iterdir() if path.name.startswith(out.name))


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_parquet_has_every_track_in_order(run, dataset, tmp_path, version, suffix, labelled):
    data = write_dataset(tmp_path / "other", dataset, suffix=suffix)
    for path in data.glob("output_*") if not labelled else ():
        path.unlink()
    out = tmp_path / "decisions.parquet"
    out.write_text("what was there before")
    refused(run("--out", out, data=data), "decisions.parquet is there already: choose another --out, or say --force")
    assert out.read_text() == "what was there before" and beside(out) == ["decisions.parquet"]
    code, told, _ = run("--out", out, "--force", "--json", data=data)
    assert code == 0 and beside(out) == ["decisions.parquet"]
    rows = pq.read_table(out).to_pylist()
    assert [row["track_id"] for row in rows] == dataset.track_ids
    scores = Registry(tmp_path / "models").load(version).score(dataset.probabilities)
    for row, expected in zip(rows, scores, strict=True):
        assert dict(zip(row["tags"], row["scores"], strict=True)) == {
            tag: float(score) for tag, score in zip(SMALL.tags, expected, strict=True) if score >= 0.5
        }
    figures = json.loads(told)
    assert figures["tracks"] == TRACKS and figures["tags"] == sum(len(row["tags"]) for row in rows)


def test_challenge_folder_is_the_layout_of_the_labels(run, data, dataset, tmp_path):
    assert run("--out", tmp_path / "submission", "--format", "challenge")[0] == 0
    assert sorted(path.name for path in (tmp_path / "submission").iterdir()) == [
        f"output_{name}_tags_data.csv" for name in ("genres", "instruments", "moods")
    ]
    for path in data.glob("output_*"):
        path.unlink()
    for path in (tmp_path / "submission").iterdir():
        shutil.copy(path, data)
    expected = dataset.probabilities[:, : SMALL.n_tags].astype(np.float16) >= 0.5
    np.testing.assert_array_equal(load(data).labels, expected)


def test_challenge_file_has_all_tags_in_the_order_of_the_vocabulary(run, dataset, tmp_path):
    out = tmp_path / "submission.csv"
    assert run("--out", out, "--format", "challenge")[0] == 0
    assert out.read_text().startswith(f"ChallengeID,{','.join(SMALL.tags)}\n{dataset.track_ids[0]},"), (
        "no needless quotes"
    )
    table = pyarrow.csv.read_csv(out)
    assert table.column_names == ["ChallengeID", *SMALL.tags]
    assert table.column(0).to_pylist() == dataset.track_ids
    expected = dataset.probabilities[:, : SMALL.n_tags].astype(np.float16) >= 0.5
    np.testing.assert_array_equal(np.stack([column.to_numpy() for column in table.columns[1:]], axis=1), expected)


def test_a_class_without_tags_has_no_file_and_odd_ids_are_quoted(tmp_path):
    words = Vocabulary.build({"moods": {"tags": ("calm", 'so, "wild"')}})
    dataset = Dataset(['a,"b', "c", "\u00e9\u2603"], make_dataset(3, words).probabilities, None, None, words)
    rows = Rows(write_dataset(tmp_path / "data", dataset))
    a_run("challenge", tmp_path / "out", words).write(rows, decided(words), False, lambda done: None)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["output_moods_tags_data.csv"]
    table = pyarrow.csv.read_csv(next((tmp_path / "out").iterdir()))
    assert table.column(0).to_pylist() == dataset.track_ids and table.column_names == ["ChallengeID", *words.tags]


PEAK = """
import sys
from pathlib import Path
from model.rows import Rows
from tests.scoring import a_run, decided

rows, out = Rows(sys.argv[1]), Path(sys.argv[2])
a_run("parquet", out, rows.vocabulary, 2048).write(rows, decided(rows.vocabulary), False, lambda done: None)
status = Path("/proc/self/status").read_text()  # not getrusage, which a process inherits from who started it
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_memory_does_not_grow_with_the_catalogue(tmp_path, suffix):
    words, peaks_kib = a_vocabulary(), []
    for tracks in (40_000, 100_000):
        data = wide_data(tmp_path / f"{tracks}", words, tracks, suffix)
        command = [sys.executable, "-c", PEAK, data, tmp_path / "out"]
        peaks_kib.append(int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout))
    held_kib = 60_000 * words.n_inputs * 4 / 1024  # more, if all of it were held
    assert peaks_kib[1] - peaks_kib[0] < held_kib / 2, f"{peaks_kib} KiB"


def wide_data(folder: Path, words, tracks: int, suffix: str) -> Path:
    """Many columns; in Parquet small row groups, as memory holds a page of each column."""
    folder.mkdir()
    numbers = np.random.default_rng(0).random((tracks, words.n_inputs), dtype=np.float32).round(3)
    ids = pa.array([f"T-{row}" for row in range(tracks)])
    for group in words.groups:
        columns = [pa.array(numbers[:, column]) for column in range(group.start, group.stop)]
        names = words.classes[group.class_name][group.list_name]
        table = pa.table([ids, *columns], names=["ChallengeID", *names])
        path = folder / f"input_{group.class_name}_{group.list_name}_data.{suffix}"
        if suffix == "csv":
            pyarrow.csv.write_csv(table, path)
        else:
            pq.write_table(table, path, row_group_size=2048)
    return folder


# --- kills

KILLS = {
    "in a part": "patch(formats.pyarrow.parquet, 'write_table', 4, lambda table, path: path.write_bytes(b'PAR1 half'))",
    "in a part of CSV": "patch(formats.pyarrow.csv, 'write_csv', 14, lambda table, path, *_: path.write_bytes(b'T-'))",
    "before a part counts": "patch(catalogue.Path, 'replace', 4, None)",
    "in the join": "patch(formats.pyarrow.parquet.ParquetWriter, 'write_table', 10 + 4, None)",
    "before it says that it is joined": "patch(catalogue.Path, 'replace', 11, None)",
    "before the rename": "patch(catalogue.Path, 'replace', 12, None)",
    "after the rename": "patch(catalogue.shutil, 'rmtree', 1, None)",
}
KILLED = """
import os, signal, sys
from pathlib import Path
from model.rows import Rows
from ops import catalogue, catalogue_formats as formats
from tests.scoring import a_run, decided

def patch(owner, name, call, first):
    original, calls = getattr(owner, name), 0
    def killed(*arguments, **more):
        nonlocal calls
        calls += 1
        if calls == call:
            if first:
                first(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **more)
    setattr(owner, name, killed)

form, out, rows = sys.argv[1], Path(sys.argv[2]), Rows(sys.argv[3])
{patched}
a_run(form, out, rows.vocabulary).write(rows, decided(rows.vocabulary), False, lambda done: None)
"""


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()} if out.is_dir() else {"": out.read_bytes()}


@pytest.mark.parametrize("where", KILLS)
def test_killed_anywhere_it_goes_on_and_the_result_is_the_same(tmp_path, data, where):
    form = "challenge" if "CSV" in where else "parquet"
    whole, out = tmp_path / "whole", tmp_path / "out"
    a_run(form, whole, SMALL).write(Rows(data), decided(SMALL), False, lambda done: None)
    command = [sys.executable, "-c", KILLED.format(patched=KILLS[where]), form, out, data]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert out.exists() == (where == "after the rename"), "nothing half-written is visible"
    seen = []
    done, before = a_run(form, out, SMALL).write(Rows(data), decided(SMALL), False, seen.append)
    assert done.tracks == TRACKS and before == {"in the join": TRACKS}.get(where, before) >= 3 * PER_PART
    assert seen[0].tracks == before and len(seen) == 1 + (TRACKS - before) / PER_PART, "only the rest was done"
    assert content(out) == content(whole) and beside(out) == ["out"]


def test_the_command_is_killed_from_outside_and_goes_on(run, tmp_path, version, dataset):
    """The real command in a process of its own, SIGKILL as soon as it has counted a part."""
    many = write_dataset(tmp_path / "many", make_dataset(4000))
    out, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    assert run("--out", whole, data=many)[0] == 0
    small_parts = (
        f"from ops import catalogue; catalogue.ROWS_PER_PART = {PER_PART}; from ops.cli.main import main; main()"
    )
    words = ["score", "--model", version, "--data", many, "--out", out, "--models-dir", tmp_path / "models"]
    process = subprocess.Popen([sys.executable, "-c", f"{small_parts}; main()", *words], cwd=ROOT)
    progress = tmp_path / "out.parquet.partial" / catalogue.PROGRESS
    deadline_s = time.monotonic() + 60
    while not progress.exists():
        assert process.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not out.exists()
    left = json.loads(progress.read_bytes())["done"]["tracks"]
    assert 0 < left < 4000
    code, told, _ = run("--out", out, "--json", data=many)
    assert code == 0 and json.loads(told)["resumed_at"] == left
    assert out.read_bytes() == whole.read_bytes() and beside(out) == ["out.parquet"]


# --- what is in the way


def test_a_full_disk_is_told_and_with_room_again_it_goes_on(run, tmp_path):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    assert run("--out", whole)[0] == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # less than a part
        refused(run("--out", out), "out.parquet cannot be written: File too large.")
        assert beside(out) == [], "nothing was done, nothing is left"
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole.stat().st_size - 100, hard))  # all parts, but not the whole
        refused(run("--out", out), "What is done is kept in")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert beside(out) == ["out.parquet.partial"]
    code, told, _ = run("--out", out, "--json")
    assert code == 0 and json.loads(told)["resumed_at"] == TRACKS
    assert out.read_bytes() == whole.read_bytes()


def test_out_that_cannot_be(run, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("kept")
    refused(run("--out", tmp_path), "is a folder; --out names the file")
    refused(run("--out", tmp_path / "s.csv"), "s.csv would hold Parquet: name it .parquet, or say --format challenge")
    refused(run("--out", tmp_path / "no" / "out.parquet"), "cannot be written: No such file or directory")
    refused(run("--out", tmp_path / "file" / "out.parquet"), "cannot be written: Not a directory")
    refused(run("--out", tmp_path / "file", "--format", "challenge"), "is a file; --format challenge writes a folder")
    refused(run("--out", tmp_path / "full", "--format", "challenge"), "is not empty")
    (tmp_path / "full").rename(tmp_path / "out.partial")
    refused(run("--out", tmp_path / "out"), "is in the way")
    assert (tmp_path / "out.partial" / "x").read_text() == "kept" and not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_folder(run, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(run("--out", tmp_path / "locked" / "out.parquet"), "cannot be written: Permission denied")


def half_done(tmp_path: Path, data: Path, out: Path) -> Path:
    """What a killed run leaves."""
    command = [sys.executable, "-c", KILLED.format(patched=KILLS["in a part"]), "parquet", out, data]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    return out.with_name(f"{out.name}.partial")


def test_what_another_run_left_is_not_mixed_in(run, tmp_path, data):
    out = tmp_path / "out.parquet"
    left = half_done(tmp_path, data, out)
    refused(run("--out", out), "with another model: finish that one, or throw it away with --restart")
    assert left.is_dir(), "it is not thrown away unasked"
    code, told, _ = run("--out", out, "--restart", "--json")
    assert code == 0 and json.loads(told)["resumed_at"] == 0 and not left.exists()

    half_done(tmp_path, data, out.with_name("other"))
    os.utime(data / "input_moods_tags_data.parquet", (1, 1))
    with pytest.raises(catalogue.OpsError, match="with another data"):
        a_run("parquet", out.with_name("other"), SMALL).write(Rows(data), decided(SMALL), False, lambda done: None)


def test_two_at_once_do_not_write_the_same(run, tmp_path):
    out = tmp_path / "out.parquet"
    partial = tmp_path / "out.parquet.partial"
    partial.mkdir()
    with (partial / catalogue.LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(run("--out", out), "another run is writing")
    assert run("--out", out)[0] == 0


def test_bad_data_leaves_nothing_where_nothing_was_done(run, tmp_path, dataset):
    out = tmp_path / "out.parquet"
    for name, text, told in (
        ("empty", "", "has no rows"),
        ("nan", "T-1,0.5\nT-2,nan\n", "row 2 (ChallengeID 'T-2') is nan, not a finite number"),
        ("text", "T-1,x\n", "is 'x', not a number"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "input_moods_tags_data.csv").write_text(f"ChallengeID,calm\n{text}")
        refused(run("--out", out, data=tmp_path / name), "vocabulary")
        rows = Rows(tmp_path / name)
        with pytest.raises(catalogue.ModelError) as caught:
            a_run("parquet", out, rows.vocabulary).write(rows, decided(rows.vocabulary), False, lambda done: None)
        assert told in str(caught.value) and beside(out) == []


@pytest.mark.parametrize("form", ["parquet", "challenge"])
def test_an_id_that_comes_twice_far_apart_is_named(tmp_path, dataset, form):
    ids = list(dataset.track_ids)
    ids[470] = ids[20]
    twice = Dataset(ids, dataset.probabilities, None, None, SMALL)
    rows = Rows(write_dataset(tmp_path / "twice", twice))
    with pytest.raises(catalogue.ModelError, match="'T-00020' twice, again in row 471"):
        a_run(form, tmp_path / "out", SMALL).write(rows, decided(SMALL), False, lambda done: None)
    with pytest.raises(catalogue.ModelError, match="'T-00020' twice, again in row 471"):  # a resumed run knows them too
        a_run(form, tmp_path / "out", SMALL).write(rows, decided(SMALL), False, lambda done: None)
