"""A streaming query as a process of its own, to be killed: `python query.py TASK`.

TASK is JSON: `options` of the source, `out` and `checkpoint` folders.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import DEADLINE_S, until


class Query:
    """Reads into parquet until it is ended."""

    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        self.out, self.checkpoint = folder / "out", folder / "checkpoint"
        self._log = folder / "query.log"
        self._task = {
            "options": options,
            "out": str(self.out),
            "checkpoint": str(self.checkpoint),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Query:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(self._task)],
                env={**os.environ, "PYSPARK_PYTHON": sys.executable},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def kill(self) -> None:
        """kill -9 of Spark and all its Python processes at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(DEADLINE_S)

    def kill_jvm(self) -> None:
        """kill -9 of the JVM alone: its Python processes notice, and end in their own way."""
        assert self._process is not None
        task = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for child in task.read_text().split():
            os.kill(int(child), signal.SIGKILL)
        self.kill()

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def has_failed(self) -> str | None:
        """What it said, where it ended by itself."""
        assert self._process is not None
        return None if self._process.poll() is None else self._log.read_text()[-4000:]

    def committed(self) -> tuple[int, dict]:
        """Batches that are done, and the streams' places after the last of them."""
        done = numbers(self.checkpoint / "commits")
        if not done:
            return 0, {}
        text = (self.checkpoint / "offsets" / str(done[-1])).read_text()
        return len(done), json.loads(text.splitlines()[-1])["streams"]

    def wait_for_batches(self, more: int) -> None:
        """Wait until so many more batches are done."""
        before, _ = self.committed()

        def is_there() -> bool:
            failed = self.has_failed()
            assert failed is None, failed
            return self.committed()[0] >= before + more

        until(is_there, f"{more} batches", 120)


def numbers(folder: Path) -> list[int]:
    """Batches that a folder of a checkpoint tells of."""
    names = [path.name for path in folder.glob("*")] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def main() -> None:
    task = json.loads(sys.argv[1])
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.streaming.minBatchesToRetain", "1000")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    read = spark.readStream.format("ngsi").options(**task["options"]).load()
    write = read.writeStream.format("parquet").option("path", task["out"])
    write.option("checkpointLocation", task["checkpoint"]).start().awaitTermination()


if __name__ == "__main__":
    main()
