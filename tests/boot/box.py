"""The box: a machine with the gateway's package in it."""

import shlex
import subprocess
from pathlib import Path

from machine import until
from spark_side import Reader

PACKAGES = "/mnt"
SETTINGS = "/etc/ngsi-ferry/ngsi-ferry.toml"


def parcel(packages, older, folder):
    """A disk with the package and an older version of it, to be installed without a network."""
    content = Path(folder) / "parcel"
    (content / "unpacked").mkdir(parents=True)
    subprocess.run(["cp", packages, content / "new.deb"], check=True)
    subprocess.run(["dpkg-deb", "-R", packages, content / "unpacked"], check=True)
    control = content / "unpacked/DEBIAN/control"
    lines = [f"Version: {older}" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", content / "unpacked", content / "old.deb"],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["rm", "-r", content / "unpacked"], check=True)
    image = Path(folder) / "parcel.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", content, image, "64M"], check=True)
    return image


class Box:
    def __init__(self, machine):
        self.machine, self.sh, self.until = machine, machine.sh, machine.until
        # For one answer of the gateway, or one start.
        self.patience = 30 if machine.accelerator == "kvm" else 300

    def on(self, **how):
        seconds = self.machine.on(**how)
        self.sh(f"mountpoint -q {PACKAGES} || mount -o ro /dev/vdb {PACKAGES}")
        return seconds

    def install(self, package):
        self.sh(f"DEBIAN_FRONTEND=noninteractive dpkg -i {PACKAGES}/{package}.deb")
        self.runs()

    def version(self):
        return self.sh("dpkg-query -W -f='${Status} ${Version}' ngsi-ferry")

    def runs(self):
        """Waits until systemd has been told that the gateway is ready."""
        self.until("systemctl -q is-active ngsi-ferry")

    def show(self, name):
        return self.sh(f"systemctl show -p {name} --value ngsi-ferry")

    def process(self):
        return int(self.show("MainPID"))

    def runs_anew(self, than):
        """Waits until another process than that one is ready."""
        until("new process", lambda: self.process() not in (0, than), self.patience)
        self.runs()

    def let_the_plant_in(self):
        """As a person does: edits the conffile."""
        self.sh(f"""sed -i 's/^allow = .*/allow = ["127.0.0.0\\/8", "10.0.2.0\\/24"]/' {SETTINGS}""")
        self.sh(f"grep -q 10.0.2.0 {SETTINGS} && systemctl restart ngsi-ferry")
        self.runs()

    def reader(self):
        keys = self.machine.folder / "keys"
        keys.mkdir(exist_ok=True)
        for name in ("ca.pem", "client.pem", "client.key"):
            (keys / name).write_text(self.sh(f"cat /var/lib/ngsi-ferry/pki/{name}") + "\n")
        return Reader(self.machine.ports[8443], keys, self.patience)

    def post_inside(self, body):
        """On loopback: the status line of the answer."""
        length = len(body.encode())
        head = f"POST /notify HTTP/1.1\\r\\nHost: box\\r\\nConnection: close\\r\\nContent-Length: {length}\\r\\n\\r\\n"
        return self.sh(f"""bash <<'SCRIPT'
exec 3<>/dev/tcp/127.0.0.1/8061
printf '{head}' >&3
printf %s {shlex.quote(body)} >&3
head -n 1 <&3
SCRIPT""")
