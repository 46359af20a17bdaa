"""All that an experiment needs, made anew for each, and taken away."""

import http.client
import json
import shutil
import ssl
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import settings
from limits import Limits
from load import press
from place import Disk, Gateway, Namespace, run, until


class Bed:
    def __init__(self, binary, folder, memory, cores, disk, congestion):
        self.binary = Path(binary).resolve()
        self.folder = Path(tempfile.mkdtemp(prefix="small-box-", dir=folder))
        self.here, self.there = Namespace("box", congestion), Namespace("centre", congestion)
        self.limits = Limits(self.folder.name, memory, cores)
        self.disk = Disk(self.folder, disk)
        self.box, self.centre, self.acknowledged = None, None, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for gateway in (self.box, self.centre):
            if gateway:
                gateway.kill()
        self.disk.remove()
        self.limits.remove()
        self.here.remove()
        self.there.remove()
        shutil.rmtree(self.folder)

    def gateway(self, uplink=False, more="", name=None):
        path = self.folder / "box.toml"
        text = settings.GATEWAY.format(data=self.disk.path / "data")
        path.write_text(text + (settings.UPLINK.format(keys=self.folder / "relay/pki") if uplink else "") + more + "\n")
        if uplink:
            self._relay_keys()
        if name:
            run(self.binary, "-c", path, "pki", "init", "--name", name)
        self.box = Gateway(self.binary, self.here, path, self.limits)
        self.box.start()
        return self.box

    def _relay_keys(self):
        path = self.folder / "relay.toml"
        path.write_text(settings.RELAY.format(data=self.folder / "relay"))
        for command in (["init", "--name", "10.77.0.2"], ["client", "box"]):
            run(self.binary, "-c", path, "pki", *command)
        self.centre = Gateway(self.binary, self.there, path)

    def relay(self, congestion):
        self.there.congestion(congestion)
        self.centre.start()
        return self.centre

    def fill(self, count):
        while self.acknowledged < count:
            self.acknowledged += press(self.here, 4, 1, 600)["acknowledged"]

    @contextmanager
    def readers(self, count, streams):
        """So many read everything there is, over and over."""
        over = threading.Event()

        def read(number):
            self.here.enter()
            keys = self.disk.path / "data/pki"
            name = f"s{number % streams + 1}" if streams > 1 else "default"
            while not over.is_set():
                try:
                    self._read(f"/v1/streams/{name}", keys, 0, over)
                except (AssertionError, OSError, http.client.HTTPException):
                    over.wait(0.2)

        threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(60)

    def killed_and_started(self):
        self.box.kill()
        return self.box.start()

    def trouble(self, gateway):
        return sum("did not take" in line or "failed" in line or "WARN" in line for line in gateway.log.read_text().splitlines())

    def relay_has_everything(self, box, witness):
        until("end of the backlog", lambda: box.metrics().get("uplink_behind_records", 1) == 0, 300)
        bodies = self._inside(self.there, lambda: self._read("/v1/gateways/box/streams/default", self.folder / "relay/pki", 0))
        assert len(set(bodies)) == len(bodies), "each is there once"
        missing = set(witness.acknowledged) - set(bodies)
        assert not missing, f"{len(missing)} are missing"
        assert len(bodies) >= self.acknowledged + len(witness.acknowledged)

    def bodies(self, stream, begin):
        return self._inside(self.here, lambda: self._read(f"/v1/streams/{stream}", self.disk.path / "data/pki", begin))

    @staticmethod
    def _inside(namespace, what):
        outcome = []

        def work():
            namespace.enter()
            outcome.append(what())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return outcome[0]

    @staticmethod
    def _read(path, keys, begin, over=None):
        tls = ssl.create_default_context(cafile=keys / "ca.pem")
        tls.load_cert_chain(keys / "client.pem", keys / "client.key")
        connection = http.client.HTTPSConnection("127.0.0.1", 8443, timeout=120, context=tls)

        def get(what):
            connection.request("GET", what)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, f"{what}: {answer.status} {data[:300]}"
            return answer, data

        about = json.loads(get(path)[1])
        begin, bodies = max(about["earliest"], begin), []
        while begin < about["next"] and not (over and over.is_set()):
            answer, data = get(f"{path}/records?from={begin}&max_bytes=4000000")
            bodies += [json.loads(line)["body"] for line in data.splitlines()] if not over else []
            begin = int(answer.headers["Ngsi-Ferry-Next"])
        return bodies
