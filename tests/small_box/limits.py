"""A control group with little memory and a part of a core, of version 1 or 2."""

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000


class Limits:
    def __init__(self, name, memory, cores):
        self.is_v2 = (ROOT / "cgroup.controllers").exists()
        quota = str(int(cores * PERIOD))
        if self.is_v2:
            self.folders = [ROOT / name]
            (ROOT / "cgroup.subtree_control").write_text("+memory +cpu")
        else:
            own = own_group("memory")
            self.folders = [ROOT / "memory" / own / name, ROOT / "cpu" / own_group("cpu") / name]
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
        if self.is_v2:
            self._set(0, "memory.max", str(memory))
            self._set(0, "memory.swap.max", "0")
            self._set(0, "cpu.max", f"{quota} {PERIOD}")
        else:
            self._set(0, "memory.limit_in_bytes", str(memory))
            self._set(1, "cpu.cfs_period_us", str(PERIOD))
            self._set(1, "cpu.cfs_quota_us", quota)

    def _set(self, which, name, value):
        (self.folders[which] / name).write_text(value)

    def enter(self):
        """Of the process that calls it, and of what it becomes."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        """Most bytes at a time, the page cache of its files included; at the limit it is given back."""
        name = "memory.peak" if self.is_v2 else "memory.max_usage_in_bytes"
        path = self.folders[0] / name
        return int(path.read_text()) if path.exists() else None

    def out_of_memory(self):
        """How often a process was ended for want of memory."""
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        for line in (self.folders[0] / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return None

    def throttled(self):
        """Periods in which it was held up, of all."""
        stat = dict(line.split() for line in (self.folders[-1] / "cpu.stat").read_text().splitlines())
        return int(stat["nr_throttled"]), int(stat["nr_periods"])

    def remove(self):
        for folder in self.folders:
            folder.rmdir()


def own_group(controller):
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.lstrip("/")
    return ""
