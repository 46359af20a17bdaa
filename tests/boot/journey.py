"""What happens to a box in its years, in this order; each step is a test."""

from machine import until
from plant import post

# A load has begun once so many were acknowledged.
SOME = 40
CONTROL = "/dev/vdc"


class Journey:
    def __init__(self, box, plant, versions, kills):
        self.box, self.plant, self.versions, self.kills = box, plant, versions, kills
        self.without_time = 0
        self.machine, self.sh = box.machine, box.sh

    def intake(self):
        return self.machine.ports[8061]

    def everything_acknowledged_is_there(self):
        bodies = self.box.reader().bodies()
        missing = self.plant.acknowledged - set(bodies)
        made_up = set(bodies) - self.plant.acknowledged - self.plant.unclear
        assert not missing, f"{len(missing)} acknowledged are missing: {sorted(missing)[:2]}"
        assert not made_up, f"{len(made_up)} were never sent so: {sorted(made_up)[:2]}"
        assert len(bodies) == len(set(bodies)), "each is there once"
        return f"{len(self.plant.acknowledged)} acknowledged, 0 missing"

    def under_load(self, what):
        """Does something while notifications come in; none may be refused."""
        load = self.plant.load(self.intake())
        until("load", lambda: load.acknowledged() >= SOME, self.box.patience)
        try:
            what()
            reached = load.acknowledged() + SOME
            until("more load", lambda: load.acknowledged() >= reached, self.box.patience)
        finally:
            load.stop()

    def control_is_written(self):
        """To see that the plug is one: on a disk that nobody flushes, past the page cache."""
        self.sh(f"yes 1 | dd of={CONTROL} bs=4096 count=1 iflag=fullblock conv=fsync 2>&1")
        self.sh(f"yes 2 | dd of={CONTROL} bs=4096 count=1 iflag=fullblock oflag=direct 2>&1")
        assert self.sh(f"head -n 1 {CONTROL}") == "2"

    def control_is_forgotten(self):
        assert self.sh(f"head -n 1 {CONTROL}") == "1", "what was flushed is there, and nothing else"

    # The steps.

    def it_installs_without_a_network_and_runs(self):
        """The older version, to begin with."""
        boot = self.box.on()
        self.box.install("old")
        assert self.versions[0] in self.box.version()
        self.box.let_the_plant_in()
        assert self.plant.send(self.intake())
        return f"on after {boot:.0f} s, {self.machine.accelerator}; {self.everything_acknowledged_is_there()}"

    def a_killed_one_comes_back_and_whoever_connects_meanwhile_waits(self):
        """Many times in a row: no limit of starts."""
        for _ in range(self.kills):
            process = self.box.process()
            self.sh(f"kill -9 {process}")
            assert self.plant.send(self.intake()), f"refused: {self.plant.refused}"
            self.box.runs_anew(process)
        restarts = int(self.box.show("NRestarts"))
        assert restarts >= self.kills, restarts
        return f"{restarts} restarts, none refused; {self.everything_acknowledged_is_there()}"

    def one_that_stands_still_is_started_anew(self):
        """By the watchdog, which gets less patience here than the unit has."""
        folder = "/run/systemd/system/ngsi-ferry.service.d"
        self.sh(f"mkdir -p {folder}; printf '[Service]\\nWatchdogSec=20s\\n' > {folder}/test.conf")
        self.sh("systemctl daemon-reload; systemctl restart ngsi-ferry")
        self.box.runs()
        process = self.box.process()
        self.sh(f"kill -STOP {process}")
        assert self.plant.send(self.intake())
        self.box.runs_anew(process)
        self.machine.until("journalctl -b -u ngsi-ferry | grep -i 'watchdog timeout'")
        self.sh(f"rm -r {folder}; systemctl daemon-reload; systemctl restart ngsi-ferry")
        self.box.runs()

    def a_reload_takes_the_configuration_over_without_a_restart(self):
        process = self.box.process()
        self.sh("printf '\\n[[route]]\\nstream = \"hall9\"\\ntenant = \"plant9\"\\n' >> /etc/ngsi-ferry/ngsi-ferry.toml && sync /etc/ngsi-ferry/ngsi-ferry.toml")
        self.sh("systemctl reload ngsi-ferry")
        headers = {"Fiware-Service": "plant9"}

        def is_routed():
            assert post(self.intake(), b"{}", self.box.patience, headers=headers) == 204
            self.plant.unclear.add("{}")
            return self.box.machine.run("ngsi-ferry status | grep -w hall9")[0] == 0

        until("route to hall9", is_routed, self.box.patience)
        assert self.box.process() == process
        assert set(self.box.reader().bodies("hall9")) == {"{}"}

    def the_plug_is_pulled_under_load_and_nothing_acknowledged_is_gone(self):
        self.sh("systemctl set-property --runtime ngsi-ferry MemoryMax=64M")
        load = self.plant.load(self.intake())
        until("load", lambda: load.acknowledged() >= 5 * SOME, self.box.patience)
        group = "/sys/fs/cgroup/system.slice/ngsi-ferry.service"
        assert "oom_kill 0" in self.sh(f"cat {group}/memory.events")
        peak = int(self.sh(f"cat {group}/memory.peak")) >> 20
        self.control_is_written()
        forgotten = self.machine.pull_the_plug()
        load.stop()
        return f"at most {peak} MiB of 64; {forgotten[0]['unflushed']} blocks were unflushed, {forgotten[0]['kept']} of them kept"

    def without_a_line_and_in_1970_it_keeps_data(self):
        """A box that finds no cable and no battery in its clock."""
        boot = self.box.on(link=False, clock="1970-01-02T00:00:00", keep=0.5)
        self.control_is_forgotten()
        self.sh("date -s @86400 && systemctl restart ngsi-ferry")
        self.box.runs()
        for _ in range(5):
            body = self.plant.notification()
            assert " 204 " in self.box.post_inside(body)
            self.plant.acknowledged.add(body)
            self.without_time += 1
        year = self.sh("date +%Y")
        assert year == "1970", year
        forgotten = self.machine.pull_the_plug()
        return f"on after {boot:.0f} s; {forgotten[0]['unflushed']} blocks were unflushed, {forgotten[0]['kept']} of them kept"

    def after_the_cuts_every_acknowledged_notification_is_there(self):
        boot = self.box.on()
        self.box.runs()
        notes = self.everything_acknowledged_is_there()
        unset = [record for record in self.box.reader().records() if record.get("clock") == "unset"]
        assert len(unset) == self.without_time, f"{len(unset)} records of the time without a time"
        return f"on after {boot:.0f} s; {notes}"

    def an_upgrade_under_load_refuses_nobody_and_keeps_data_and_settings(self):
        settings = self.sh("cat /etc/ngsi-ferry/ngsi-ferry.toml")
        refused = len(self.plant.refused)
        self.under_load(lambda: self.box.install("new"))
        assert self.plant.refused[refused:] == []
        assert self.versions[1] in self.box.version()
        assert self.sh("cat /etc/ngsi-ferry/ngsi-ferry.toml") == settings, "the edited conffile was kept"
        return self.everything_acknowledged_is_there()

    def removed_and_installed_again_it_finds_its_data(self):
        self.sh("DEBIAN_FRONTEND=noninteractive apt-get -qq remove -y ngsi-ferry")
        self.sh("! systemctl -q is-active ngsi-ferry.socket && ! test -e /usr/bin/ngsi-ferry")
        self.box.install("new")
        return self.everything_acknowledged_is_there()

    def purged_it_leaves_nothing(self):
        self.sh("DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y ngsi-ferry")
        left = self.sh("ls -d /var/lib/*ngsi* /var/lib/private/*ngsi* /etc/*ngsi* /run/*ngsi* 2>/dev/null || true")
        assert not left, left
        self.sh("! systemctl list-unit-files --no-legend 'ngsi-ferry*' | grep .")

    STEPS = [
        it_installs_without_a_network_and_runs,
        a_killed_one_comes_back_and_whoever_connects_meanwhile_waits,
        one_that_stands_still_is_started_anew,
        a_reload_takes_the_configuration_over_without_a_restart,
        the_plug_is_pulled_under_load_and_nothing_acknowledged_is_gone,
        without_a_line_and_in_1970_it_keeps_data,
        after_the_cuts_every_acknowledged_notification_is_there,
        an_upgrade_under_load_refuses_nobody_and_keeps_data_and_settings,
        removed_and_installed_again_it_finds_its_data,
        purged_it_leaves_nothing,
    ]
    # For a board that is emulated, where each boot takes minutes.
    SHORT = [
        it_installs_without_a_network_and_runs,
        a_killed_one_comes_back_and_whoever_connects_meanwhile_waits,
        the_plug_is_pulled_under_load_and_nothing_acknowledged_is_gone,
        after_the_cuts_every_acknowledged_notification_is_there,
        an_upgrade_under_load_refuses_nobody_and_keeps_data_and_settings,
        removed_and_installed_again_it_finds_its_data,
        purged_it_leaves_nothing,
    ]
