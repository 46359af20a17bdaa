"""CPU seconds of a process and all that it started."""

from __future__ import annotations

import os
import threading
from pathlib import Path

POLL_S = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """Remembers what each process has used: Spark's daemon does not wait for its workers."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._poll, daemon=True).start()

    def seconds(self) -> float:
        """Give user and system time so far."""
        with self._lock:
            self._look()
            return sum(self._seen.values()) / TICKS

    def _poll(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL_S):
            self.seconds()

    def _look(self) -> None:
        children: dict[int, list[tuple[int, int, int]]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                # Its number, when it began (numbers come again), what it used.
                one = (int(entry.name), int(fields[19]), int(fields[11]) + int(fields[12]))
                children.setdefault(int(fields[1]), []).append(one)
        own = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        waiting = [(os.getpid(), int(own[19]), int(own[11]) + int(own[12]))]
        while waiting:
            pid, begun, used = waiting.pop()
            self._seen[pid, begun] = used
            waiting += children.get(pid, [])
