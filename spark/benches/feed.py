"""What is read: Orion's notifications in a gateway, and the same lines from a socket."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "spark" / "tests"), str(ROOT / "spark" / "src")]
import conftest  # noqa: E402

STREAM = "press"
SENDERS = 8
HEADERS = {
    "Fiware-Service": "plant1",
    "Fiware-ServicePath": "/line/a",
    "Fiware-Correlator": "32de3d56-e663-11f1-928e-02fc00000001; cbnotif=1",
    "Ngsiv2-AttrsFormat": "normalized",
    "User-Agent": "orion/4.7.0-next libcurl/7.88.1",
}


def body(number: int) -> bytes:
    """Make a notification of about 360 bytes: 800 with the headers that come in its line."""
    attrs = {
        "temperature": {
            "type": "Number",
            "value": number * 0.5,
            "metadata": {"unitCode": {"type": "Text", "value": "CEL"}},
        },
        "pressure": {"type": "Number", "value": number, "metadata": {}},
        "state": {"type": "Text", "value": "running", "metadata": {}},
    }
    entity = {"id": f"urn:Press:{number % 100}", "type": "Press", **attrs}
    document = {"subscriptionId": "5f7d9e1c2a4b6d8e0f1a2b3c", "data": [entity]}
    return json.dumps(document, separators=(",", ":")).encode()


def fill(gateway: conftest.Gateway, records: int) -> None:
    """Post notifications."""
    threads = [
        threading.Thread(
            target=gateway.notify_all,
            args=(STREAM, (body(i) for i in range(k, records, SENDERS)), HEADERS),
        )
        for k in range(SENDERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def notify_steadily(gateway: conftest.Gateway, rate: int, stop: threading.Event) -> None:
    """Post so many notifications a second, on 4 connections, until told to stop."""

    def post(k: int) -> None:
        begun, sent = time.monotonic(), k
        while not stop.wait(0.01):
            due = int((time.monotonic() - begun) * rate)
            gateway.notify_all(STREAM, (body(i) for i in range(sent, due, 4)), HEADERS)
            sent += len(range(sent, due, 4)) * 4

    for k in range(4):
        threading.Thread(target=post, args=(k,), daemon=True).start()


def hold(gateway: conftest.Gateway) -> None:
    """Keep what one reader acknowledges for the next."""
    from pyspark_ngsi import http
    from pyspark_ngsi.http import Access

    path = f"/v1/streams/{STREAM}/consumers/all-readers"
    http.request(Access.from_options(gateway.options())[0], "PUT", path, body={"position": 0})


def lines_of(gateway: conftest.Gateway) -> list[bytes]:
    """Read all stored lines, as the socket readers are given them: with their ends."""
    from pyspark_ngsi import batches, http
    from pyspark_ngsi.http import Access

    access, held, at = Access.from_options(gateway.options())[0], [], 0
    while True:
        answer = http.request(
            access,
            "GET",
            f"/v1/streams/{STREAM}/records",
            query={"from": at},
            headers={"Accept-Encoding": "zstd"},
        )
        lines = batches.unpack(answer.body, answer.headers.get("content-encoding"))
        if not lines.size:
            return held
        held += lines.to_pybytes().splitlines(keepends=True)
        at = int(answer.headers["ngsi-ferry-next"])


def serve(lines: list[bytes], warm_up: int, slices: int, is_warm: Path, rate: int | None) -> int:
    """Serve lines to each client that connects; gives the port.

    First `warm_up` of them, in `slices`, one a second; once `is_warm` is there all of
    them from the beginning: at once, or `rate` a second.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def send(client: socket.socket) -> None:
        trickle(client, lines[:warm_up], max(1, warm_up // slices))
        conftest.until(is_warm.exists, "the reader of the first lines", 900)
        if rate is None:
            client.sendall(b"".join(lines))
        else:
            trickle(client, lines, rate)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=send, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def trickle(client: socket.socket, lines: list[bytes], rate: int) -> None:
    """Send so many lines a second."""
    begun = time.monotonic()
    for second, at in enumerate(range(0, len(lines), rate)):
        time.sleep(max(0.0, begun + second - time.monotonic()))
        client.sendall(b"".join(lines[at : at + rate]))
