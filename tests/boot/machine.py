"""The machine that is switched on: qemu, its disks with a plug, a shell in it."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
# A board that is emulated takes minutes to start.
PATIENCE = {"kvm": 120, "tcg": 1800}

BOARDS = {
    "amd64": ["qemu-system-x86_64", "-machine", "q35", "-cpu", "max"],
    "arm64": ["qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a53"],
    "armhf": ["qemu-system-arm", "-machine", "virt", "-cpu", "cortex-a15"],
}
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0", "armhf": "ttyAMA0"}


class Failed(Exception):
    """A command in the machine ended with an error."""


def accelerator(arch, image):
    """KVM where it runs a kernel of Debian's, which not every machine with /dev/kvm does."""
    chosen = os.environ.get("NGSI_FERRY_BOOT_ACCELERATOR")
    if chosen or arch != "amd64" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return chosen or "tcg"
    trial = BOARDS[arch] + ["-accel", "kvm", "-m", "256M", "-nodefaults", "-display", "none", "-no-reboot"]
    trial += ["-kernel", image / "kernel", "-initrd", image / "initrd", "-serial", "stdio"]
    trial += ["-append", "console=ttyS0 quiet panic=-1 rdinit=/bin/busybox -- reboot -f"]
    try:
        subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=True)
        return "kvm"
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return "tcg"


def until(what, true, seconds, pause=0.05):
    """Waits for a state, never for a time."""
    end = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s there is still no {what}")
        time.sleep(pause)
    return value


class Machine:
    """`disks` are image files by the order in which they are /dev/vda, vdb, …"""

    def __init__(self, arch, image, folder, disks):
        self.arch, self.image, self.folder, self.disks = arch, Path(image), Path(folder), disks
        self.accelerator = accelerator(arch, self.image)
        self.patience = PATIENCE[self.accelerator]
        self.qemu, self.plugs, self.shell, self.marks = None, [], None, 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def on(self, memory="512M", link=True, clock=None, keep=0.0, seed=0, ports=(8061, 8443)):
        """Plugs it in and waits until its shell answers."""
        begun = time.monotonic()
        arguments = list(BOARDS[self.arch])
        arguments += ["-accel", self.accelerator, "-m", memory, "-smp", "1", "-nodefaults", "-no-user-config"]
        arguments += ["-display", "none", "-kernel", self.image / "kernel", "-initrd", self.image / "initrd"]
        arguments += ["-append", f"console={CONSOLES[self.arch]} quiet panic=-1 net.ifnames=0"]
        arguments += ["-serial", f"file:{self.folder}/console.log", "-no-reboot"]
        arguments += ["-rtc", f"base={clock}"] if clock else []
        arguments += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        arguments += ["-chardev", f"socket,id=shell,path={self.folder}/shell,server=on,wait=off"]
        arguments += ["-device", "virtserialport,chardev=shell,name=shell"]
        arguments += ["-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"]
        if link:
            arguments += ["-netdev", "user,id=wire,restrict=on" + "".join(f",hostfwd=tcp:127.0.0.1:0-:{port}" for port in ports)]
            arguments += ["-device", "virtio-net-pci,netdev=wire"]
        for number, disk in enumerate(self.disks):
            path = self.folder / f"disk{number}"
            path.unlink(missing_ok=True)
            plug = [sys.executable, HERE / "plug.py", path, disk, str(keep), f"{seed}.{number}"]
            self.plugs.append(subprocess.Popen(plug, stdout=subprocess.PIPE, text=True))
            self.plugs[-1].stdout.readline()
            arguments += ["-drive", f"if=none,id=disk{number},format=raw,file=nbd+unix:///?socket={path}"]
            arguments += ["-device", f"virtio-blk-pci,drive=disk{number}"]
        with open(self.folder / "qemu.log", "ab") as log:
            self.qemu = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.shell = self._connect("shell")
        self.shell.settimeout(self.patience)
        self.sh("true")
        self.ports = self._ports() if link else {}
        return time.monotonic() - begun

    def _connect(self, name):
        def attempt():
            if self.qemu.poll() is not None:
                raise Failed("qemu ended: " + (self.folder / "qemu.log").read_text()[-2000:])
            wire = socket.socket(socket.AF_UNIX)
            try:
                wire.connect(str(self.folder / name))
                return wire
            except OSError:
                wire.close()

        return until(f"qemu at {name}", attempt, 30)

    def _ports(self):
        """Which port of ours leads to which of the machine's."""
        with self._connect("qmp") as wire, wire.makefile("rw") as stream:
            stream.readline()
            answer = None
            for command in ("qmp_capabilities", "human-monitor-command"):
                about = {"command-line": "info usernet"} if answer else {}
                stream.write(json.dumps({"execute": command, "arguments": about}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
        rows = re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)", answer["return"])
        return {int(inside): int(outside) for outside, inside in rows}

    def run(self, command):
        """A command's exit code and what it printed."""
        self.marks += 1
        mark = f"=={self.marks}=="
        self.shell.sendall(f"( {command}\n) </dev/null 2>&1; echo {mark}$?\n".encode())
        heard = b""
        while not (end := re.search(rf"{mark}(\d+)\n".encode(), heard)):
            part = self.shell.recv(1 << 16)
            if not part:
                raise Failed(f"the machine went away during: {command}")
            heard += part
        return int(end[1]), heard[: end.start()].decode(errors="replace")

    def sh(self, command):
        """What a command printed; it must succeed."""
        code, printed = self.run(command)
        if code:
            raise Failed(f"{command}: exit code {code}\n{printed}")
        return printed.strip()

    def until(self, command, seconds=60):
        """Waits until a command succeeds in the machine."""
        seconds *= 1 if self.accelerator == "kvm" else 20
        until(f"success of `{command}`", lambda: self.run(command)[0] == 0, seconds)

    def pull_the_plug(self):
        """Off, at once; what each disk forgot."""
        self.qemu.kill()
        return self._gone()

    def switch_off(self):
        """In order, as a person would."""
        self.shell.sendall(b"systemctl poweroff\n")
        self.qemu.wait(self.patience)
        return self._gone()

    def _gone(self):
        self.qemu.wait()
        self.shell.close()
        forgotten = [json.loads(plug.communicate(timeout=60)[0].splitlines()[-1]) for plug in self.plugs]
        self.qemu, self.plugs, self.shell = None, [], None
        return forgotten

    def unplug(self):
        """However it stands."""
        if self.qemu:
            self.pull_the_plug()
