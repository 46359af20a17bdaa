"""Real parts for the tests: the gateway's own binary, and a real Spark."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
# Nobody listens on port 9 (discard): an Orion that is away.
NO_ORION = "http://127.0.0.1:9"


def binary() -> Path:
    """The gateway to test: `NGSI_FERRY_BIN`, else the debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(os.environ.get("NGSI_FERRY_BIN", target / "debug" / "ngsi-ferry"))
    if not path.exists():
        pytest.fail(f"{path} is missing: cargo build", pytrace=False)
    return path


def until(condition, what: str, deadline_s: float = DEADLINE_S):
    """Wait for something that nobody tells of; gives what `condition` gave."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {deadline_s} s")
        time.sleep(0.02)
    return found


class Gateway:
    """A gateway (or relay) as a process: started, killed, started again on the same data."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        # Kept over restarts, as on a box: jobs know the gateway by its address.
        self.ports = {name: free_port() for name in ("INTAKE", "SPARK", "ADMIN")}

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports['SPARK']}"

    def start(self) -> Gateway:
        addresses = self.folder / "addresses.json"
        addresses.unlink(missing_ok=True)
        variables = {f"{name}__LISTEN": f"127.0.0.1:{port}" for name, port in self.ports.items()}
        variables |= {
            "DATA_DIR": str(self.data_dir),
            "ADDRESSES_FILE": str(addresses),
            "ORION__URL": NO_ORION,
            **self.settings,
        }
        # Those that begin so are settings of the gateway; the tests' own are none.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("NGSI_FERRY_")}
        self.environment |= {f"NGSI_FERRY_{name}": value for name, value in variables.items()}
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary(), "run"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        until(lambda: self._listens(addresses), f"the gateway in {self.folder}")
        return self

    def _listens(self, addresses: Path) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.folder / "gateway.log").read_text()
            raise RuntimeError(f"the gateway ended with {self.process.returncode}:\n{log[-3000:]}")
        return addresses.exists()

    def kill(self) -> Gateway:
        """kill -9."""
        return self._end(signal.SIGKILL)

    def stop(self) -> Gateway:
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> Gateway:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(DEADLINE_S)
            self.process = None
        return self

    def notify(self, stream: str, body: object, headers: dict[str, str] | None = None) -> None:
        """Post a notification as Orion would; it must be answered 204."""
        self.notify_all(stream, [body], headers)

    def notify_all(self, stream: str, bodies, headers: dict[str, str] | None = None) -> None:
        """Post notifications one after the other on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["INTAKE"], timeout=30)
        sent = {"Content-Type": "application/json", **(headers or {})}
        for body in bodies:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request("POST", f"/notify/{stream}", body=data, headers=sent)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 204, answer.status
        connection.close()

    def command(self, *arguments: str) -> str:
        """What a command of the gateway's program prints."""
        done = subprocess.run(
            [binary(), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def metrics(self) -> str:
        """What the admin listener says, as OpenMetrics."""
        return self.admin("metrics")

    def admin(self, path: str) -> str:
        address = f"http://127.0.0.1:{self.ports['ADMIN']}/{path}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.read().decode()

    def options(self) -> dict[str, str]:
        """What a job on this machine needs to reach it."""
        pki = self.data_dir / "pki"
        return {
            "url": self.url,
            "caFile": str(pki / "ca.pem"),
            "certFile": str(pki / "client.pem"),
            "keyFile": str(pki / "client.key"),
        }


# Bound for as long as the tests run, and not listening: nobody else is given the port,
# and whoever it is meant for can listen there (SO_REUSEADDR).
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port that is nobody's, and stays so while its gateway is down."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)
    return reserved.getsockname()[1]


def notification(number: int, entity: str = "urn:Press:1") -> dict[str, object]:
    """An NGSIv2 notification, normalized, as Orion sends it."""
    temperature = {"type": "Number", "value": number, "metadata": {}}
    return {
        "subscriptionId": "5f7d9e1c2a4b6d8e0f1a2b3c",
        "data": [{"id": entity, "type": "Press", "temperature": temperature}],
    }


@pytest.fixture
def gateways(tmp_path):
    """Makes gateways with settings (`STORE__MAX_BYTES="8MiB"`), each in a folder of its own."""
    made: list[Gateway] = []

    def make(name: str = "gateway", **settings: str) -> Gateway:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Gateway(folder, **settings).start())
        return made[-1]

    yield make
    for gateway in made:
        gateway.kill()


@pytest.fixture
def relays(gateways):
    """Makes a relay, and gateways behind it that dial out over lines that fail."""
    relay = gateways(
        "relay",
        ID="relay",
        CLIENT__0__NAME="*",
        CLIENT__0__ALLOW='["uplink", "read", "acknowledge", "write-back"]',
    )

    def behind(name: str, line_url: str, **settings: str) -> Gateway:
        pki = relay.data_dir / "pki"
        relay.command("pki", "client", name)
        uplink = {
            "UPLINK__URL": line_url,
            "UPLINK__CA": str(pki / "ca.pem"),
            "UPLINK__CERT": str(pki / f"{name}.pem"),
            "UPLINK__KEY": str(pki / f"{name}.key"),
        }
        return gateways(name, ID=name, **uplink, **settings)

    return relay, behind


@pytest.fixture
def gateway(gateways) -> Gateway:
    return gateways()


@pytest.fixture(scope="session")
def spark():
    """One Spark for the tests that do not kill it."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
