"""Load on the intake, and an account of what was acknowledged."""

import http.client
import json
import random
import re
import subprocess
import threading
from pathlib import Path

POST = Path(__file__).parent / "post.lua"
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


def press(namespace, connections, seconds, body_bytes, fresh=False, streams=1):
    """What wrk says: answers a second, their latency in ms, and those that were no 2xx."""
    command = ["env", f"BODY_BYTES={body_bytes}", f"STREAMS={streams}", *(["BODY_FRESH=1"] if fresh else []), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--timeout", "10s", "--latency", "-s", POST, f"http://127.0.0.1:8061/notify"]
    text = namespace.run(*command)
    found = lambda pattern: re.search(pattern, text)
    duration = lambda match: float(match[1]) * UNITS[match[2]]
    answers = int(found(r"(\d+) requests in")[1])
    other = found(r"Non-2xx or 3xx responses: (\d+)")
    errors = found(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
    taken = float(found(r"requests in ([\d.]+)(m?)s")[1])
    return {
        "acknowledged": answers - int(other[1] if other else 0),
        "rate": answers / max(taken, 1) if "m" not in found(r"requests in ([\d.]+)(m?)s")[2] else answers / (taken * 60),
        "p50": duration(found(r"50%\s+([\d.]+)(\w+)")),
        "p99": duration(found(r"99%\s+([\d.]+)(\w+)")),
        "slowest": duration(found(r"Latency\s+\S+\s+\S+\s+([\d.]+)([a-z]+)")),
        "refused": int(other[1]) if other else 0,
        "errors": sum(int(errors[n]) for n in (1, 2, 3)) if errors else 0,
        "late": int(errors[4]) if errors else 0,
    }


class Witness:
    """Sends some a second, one after the other, and keeps what was acknowledged."""

    def __init__(self, namespace, stream, rate, seed=1):
        self.namespace, self.stream, self.rate = namespace, stream, rate
        self.chance = random.Random(seed)
        self.acknowledged, self.unclear = [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.namespace.enter()
        number = 0
        while not self.over.wait(1 / self.rate):
            number += 1
            body = json.dumps({"subscriptionId": self.stream, "data": [{"id": f"urn:Press:{number}", "type": "Press",
                "note": {"type": "Text", "value": "%0400x" % self.chance.getrandbits(1600)}}]})
            connection = http.client.HTTPConnection("127.0.0.1", 8061, timeout=30)
            try:
                connection.request("POST", f"/notify/{self.stream}", body)
                answer = connection.getresponse()
                answer.read()
                (self.acknowledged if answer.status == 204 else self.unclear).append(body)
            except (OSError, http.client.HTTPException):
                self.unclear.append(body)
            finally:
                connection.close()

    def stop(self):
        self.over.set()
        self.thread.join()
