"""What the tests of the connector share: jobs as processes, and an Orion stand-in."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT

# Where an old PySpark is; scripts/test-spark sets it.
OLD = os.environ.get("NGSI_FERRY_PYSPARK_35", "")


def pythons():
    """This Python with its PySpark, and one with PySpark 3.5."""
    missing = pytest.mark.skipif(
        not os.path.exists(OLD),
        reason="NO PYSPARK 3.5: set NGSI_FERRY_PYSPARK_35 to a Python that has it",
    )
    return [pytest.param(sys.executable, id="own"), pytest.param(OLD, id="3.5", marks=missing)]


class Orion:
    """Takes updates of attributes, and remembers them by entity."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, dict, dict[str, str]]] = []
        orion = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PATCH(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                name = re.fullmatch(r"/v2/entities/(.*)/attrs", self.path)[1]
                headers = {name.lower(): value for name, value in self.headers.items()}
                orion.updates.append((name, json.loads(body), headers))
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def names(self) -> set[str]:
        return {name for name, _, _ in list(self.updates)}


class Job:
    """A driver as a process of its own, with everything that it starts."""

    def __init__(self, python: str, folder, script, *arguments: str) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "SPARK_HOME"}
        environment |= {
            "PYTHONPATH": str(ROOT / "spark" / "src"),
            "PYSPARK_PYTHON": python,
            "PYSPARK_DRIVER_PYTHON": python,
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        self.log = folder / "job.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [python, str(script), *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def runs(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the job ended with {self.process.returncode}:\n{self.said()}")
        return True

    def kill(self) -> None:
        """kill -9, the JVM and its workers too."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def orion():
    made = Orion()
    yield made
    made.server.shutdown()


@pytest.fixture
def jobs(tmp_path):
    """Starts jobs, and kills what is left of them."""
    started: list[Job] = []

    def start(python: str, script, *arguments: str) -> Job:
        started.append(Job(python, tmp_path, script, *arguments))
        return started[-1]

    yield start
    for job in started:
        if job.process.poll() is None:
            job.kill()
