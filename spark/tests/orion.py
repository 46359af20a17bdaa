"""The stand-in for Orion of the gateway's own tests, as a process (examples/orion_stand_in.rs)."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

ROOT = Path(__file__).resolve().parents[2]


def program() -> Path:
    """`NGSI_FERRY_ORION_STAND_IN`, else the debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    default = target / "debug" / "examples" / "orion_stand_in"
    path = Path(os.environ.get("NGSI_FERRY_ORION_STAND_IN", default))
    if not path.exists():
        pytest.fail(f"{path} is missing: cargo build --example orion_stand_in", pytrace=False)
    return path


class Orion:
    """A context broker with a journal of what it applied."""

    def __init__(self) -> None:
        # It ends when its standard input does, also where a test is killed.
        self.process = subprocess.Popen(
            [program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.url: str = told["orion"]
        self.control: str = told["control"]

    def journal(self) -> list[dict[str, Any]]:
        """Every request received, in order; `applied` tells whether it changed anything."""
        return self._ask("GET", "/journal")["requests"]

    def applied(self) -> int:
        """How many requests changed anything."""
        return self._ask("GET", "/count")["applied"]

    def received(self) -> int:
        return self._ask("GET", "/count")["requests"]

    def entity(self, entity: str, tenant: str = "") -> dict[str, Any]:
        return self._ask("GET", f"/entities/{tenant}/{quote(entity)}")

    def tell(self, what: str) -> None:
        """`down`, `up`, `slow?ms=N`, `lose-answers?times=N`, `heal`."""
        self._ask("POST", f"/{what}")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def _ask(self, method: str, path: str) -> Any:
        asked = urllib.request.Request(self.control + path, method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)
