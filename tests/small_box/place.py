"""Where the box stands: two namespaces, a small disk, and a process with limits."""

import ctypes
import json
import os
import subprocess
import time
from pathlib import Path

from limits import Limits

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NETWORK = 0x40000000


def run(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


def until(what, true, seconds):
    end = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s there is still no {what}")
        time.sleep(0.1)
    return value


class Namespace:
    """A network of its own, where ports are nobody else's."""

    def __init__(self, name, congestion):
        self.name = f"{name}-{os.getpid()}"
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        self.congestion(congestion)

    def congestion(self, algorithm):
        self.run("sysctl", "-q", "-w", f"net.ipv4.tcp_congestion_control={algorithm}")

    def command(self, *command):
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def run(self, *command):
        return run(*self.command(*command))

    def enter(self):
        """This thread's sockets are in it from here on."""
        with open(f"/var/run/netns/{self.name}") as file:
            if LIBC.setns(file.fileno(), NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Disk:
    """An ext4 of that many MiB."""

    def __init__(self, folder, mebibytes):
        self.image, self.path = Path(folder) / "disk.img", Path(folder) / "disk"
        self.path.mkdir(parents=True)
        run("truncate", "-s", f"{mebibytes}M", self.image)
        run("mkfs.ext4", "-q", self.image)
        run("mount", "-o", "loop,noatime", self.image, self.path)

    def free(self):
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def device(self):
        return Path(run("findmnt", "-no", "SOURCE", self.path).strip()).name

    def sync(self):
        run("sync", "-f", self.path)

    def written(self):
        """Bytes that reached the device."""
        return int(Path(f"/sys/block/{self.device()}/stat").read_text().split()[6]) * 512

    def remove(self):
        subprocess.run(["umount", self.path], check=False)
        self.image.unlink()


class Gateway:
    def __init__(self, binary, namespace, settings, limits=None):
        self.binary, self.namespace, self.settings, self.limits = binary, namespace, Path(settings), limits
        self.process, self.log = None, self.settings.with_suffix(".log")

    def command(self, *arguments):
        return self.namespace.command(self.binary, "-c", self.settings, *arguments)

    def start(self):
        enter = self.limits.enter if self.limits else None
        begun = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=enter)
        until(f"ready gateway; see {self.log}", self.is_ready, 120)
        return time.monotonic() - begun

    def is_ready(self):
        assert self.process.poll() is None, f"the gateway ended: {self.log.read_text()[-2000:]}"
        return subprocess.run(self.namespace.command("curl", "-sf", "http://127.0.0.1:8071/ready"), capture_output=True).returncode == 0

    def metrics(self):
        text = self.namespace.run("curl", "-sf", "-m", "60", "http://127.0.0.1:8071/metrics")
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("ngsi_ferry_"): float(value) for name, value in rows}

    def status(self):
        return json.loads(run(*self.command("status", "--json")))

    def resident(self):
        """Bytes of its own, now; and the most that it ever had."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return tuple(int(status[name].split()[0]) * 1024 for name in ("RssAnon", "VmHWM"))

    def is_alive(self):
        return self.process.poll() is None

    def end(self):
        """In order."""
        self.process.terminate()
        self.process.wait()

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
