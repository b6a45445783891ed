"""The pinned jars: a list that is whole, and files that are the pinned ones or are not kept."""

import hashlib
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.local import jars
from ops.local.jars import Jar, JarList, cache_dir, classpath, kafka_jars, load_jar_list

CONTENT = b"the bytes of a jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


class FakeArtifact:
    """A download that leaves given bytes, or fails first."""

    def __init__(self, folder: Path, content: bytes | Exception) -> None:
        self.folder, self.content = folder, content

    def resolve(self) -> Path:
        if isinstance(self.content, Exception):
            raise self.content
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "downloaded.jar"
        path.write_bytes(self.content)
        return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAGSTREAM_CACHE_DIR", str(tmp_path))
    return tmp_path


def serve(monkeypatch: pytest.MonkeyPatch, *contents: bytes | Exception) -> None:
    """Let each next download bring the next of `contents`."""
    queue = list(contents)
    monkeypatch.setattr(jars, "_maven_artifact", lambda _jar, folder: FakeArtifact(folder, queue.pop(0)))


def test_the_pinned_list_is_whole() -> None:
    pinned = load_jar_list()
    by_artifact = {jar.artifact: jar for jar in pinned.jars}
    assert int(pinned.kafka_version.split(".")[0]) >= 4
    assert {"kafka_2.13", "kafka-clients", "log4j-slf4j-impl", "scala-library"} <= set(by_artifact)
    kafka_versions = {jar.version for jar in pinned.jars if jar.group == "org.apache.kafka"}
    assert kafka_versions == {pinned.kafka_version}, "clients and broker of one version"


def test_a_malformed_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    for text in ('kafka = "4.4.0"', 'kafka = "4"\n[[jar]]\ngroup = "g"', "not toml", "jar = []"):
        path.write_text(text)
        with pytest.raises(OpsError, match=r"list\.toml"):
            load_jar_list(path)
    path.write_text('kafka = "4"\n[[jar]]\ngroup = "g"\nartifact = "a"\nversion = "1"\nsha256 = "abc"\n')
    with pytest.raises(OpsError, match="3 characters instead of 64"):
        load_jar_list(path)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("TAGSTREAM_CACHE_DIR", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("TAGSTREAM_CACHE_DIR")
    assert cache_dir() == tmp_path / "xdg" / "tagstream"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "tagstream"


def test_jars_are_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = JarList("9.9", (JAR,))
    serve(monkeypatch, CONTENT)
    folder = kafka_jars(pinned)
    assert (folder / "thing-1.0.jar").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["thing-1.0.jar"], "nothing is left aside"
    assert kafka_jars(pinned) == folder, "the second time there is nothing to download"
    assert classpath(pinned) == str(folder / "thing-1.0.jar")


def test_a_wrong_sha256_is_one_sentence_and_nothing_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, b"something else")
    with pytest.raises(OpsError, match=r"^thing-1\.0\.jar is not the jar that was pinned \(sha256") as raised:
        kafka_jars(JarList("9.9", (JAR,)))
    assert "\n" not in str(raised.value)
    assert list((cache / "kafka-9.9").iterdir()) == []


def test_a_broken_download_is_tried_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, ConnectionError("reset"), CONTENT)
    assert (kafka_jars(JarList("9.9", (JAR,))) / "thing-1.0.jar").exists()


def test_no_network_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, *[ConnectionError("no route\nand more")] * jars.DOWNLOAD_ATTEMPTS)
    with pytest.raises(OpsError, match=r"could not be fetched \(no route\).*TAGSTREAM_KAFKA_BOOTSTRAP"):
        kafka_jars(JarList("9.9", (JAR,)))


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TAGSTREAM_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(OpsError, match=r"cannot be written.*TAGSTREAM_CACHE_DIR"):
        kafka_jars(JarList("9.9", (JAR,)))
