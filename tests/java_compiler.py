"""Compiles Java on the JRE that is there anyway: the batch compiler of Eclipse, one pinned jar, needs no JDK."""

import os
import subprocess
from pathlib import Path

from ops.errors import OpsError
from ops.local.jars import Jar, cache_dir, classpath, pinned_jars
from ops.local.kafka import find_java

COMPILER = Jar("org.eclipse.jdt", "ecj", "3.44.0", "14c46ddc2e511c46c998da728f6a80f13a689c920f3832402f7ad150f6a6188d")
COMPILE_TIMEOUT_S = 60
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
LANGUAGE = "17"  # the oldest Java that the examples promise to run on


def compiled(source: Path, folder: Path) -> list[str]:
    """Compile one file into `folder`, with Kafka's jars at hand: the command that runs its class."""
    jars = pinned_jars([COMPILER], cache_dir() / f"ecj-{COMPILER.version}", "the Java compiler")
    java, path = find_java(), classpath()
    words = ["-jar", str(jars / COMPILER.file_name), f"-{LANGUAGE}", "-failOnWarning", "-cp", path, "-d", str(folder)]
    made = subprocess.run(
        [java, *QUICK, *words, str(source)], check=False, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S
    )
    if made.returncode:
        raise OpsError(f"{source.name} does not compile: {made.stderr.strip()[-2000:]}")
    return [java, *QUICK, "-cp", os.pathsep.join([str(folder), path]), source.stem]
