"""Runs commands, keeps what they said, and puts back what was changed.

Promise: each command and its raw output are in the folder, each table names its command, and a command that failed is
named at the end. Settings of the kernel are as they were found afterwards, also when this is interrupted or killed.
"""
import contextlib, fcntl, json, os, shlex, signal, statistics, subprocess, sys, time

# The one that the live tests take: there is one audit system.
LOCK = "/run/audit-relay-live.lock"


class Interrupted(Exception):
    pass


class Harness:
    def __init__(self, folder, programs, roots, quick):
        self.folder, self.programs, self.roots, self.quick = folder, programs, roots, quick
        self.loadgen = os.path.join(programs, "audit-loadgen")
        self.relay_path = os.path.join(programs, "audit-relay")
        self.failures, self.child = [], None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)

    def _interrupt(self, number, _frame):
        # A second one is not to disturb what puts things back.
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    # ------------------------------------------------------------------------------------------------- commands

    def seconds(self, whole):
        """How long a load lasts."""
        return "1" if self.quick else str(whole)

    def count(self, whole):
        """How many records a load has."""
        return str(max(whole // 20, 20_000) if self.quick else whole)

    def rounds(self, whole):
        return "1" if self.quick else str(whole)

    def relay(self, *more):
        """The relay as the program under test."""
        return ["--", self.relay_path, "--config", "none", "--to", "{to}", "--hostname", "loadgen", *more]

    def measure(self, name, *args, before=(), timeout=300):
        """audit-loadgen ARGS --json FOLDER/NAME.json. Returns the report, empty if there is none."""
        file = os.path.join(self.folder, name + ".json")
        # Or a command that fails would be told with an earlier run's figures.
        if os.path.exists(file):
            os.remove(file)
        # What is behind -- is the program's.
        at = args.index("--") if "--" in args else len(args)
        command = [*before, self.loadgen, *args[:at], "--json", file, *args[at:]]
        status = self.run(name, command, timeout)
        if status not in (0, 1, 3):
            self.failures.append(f"{name}: exit code {status}, see {name}.txt")
            # What was cut short has a report, too, but no figures for a table.
            return Report({})
        try:
            with open(file) as text:
                return Report(json.load(text))
        except (OSError, ValueError):
            return Report({})

    def kernel(self, name, *args, timeout=240):
        """audit-loadgen kernel, alone with the kernel's audit system."""
        root = ["--root", self.roots[0]] if self.roots else []
        with open(LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self.measure(name, "kernel", *root, "--allow-loss", *args, timeout=timeout)

    def run(self, name, command, timeout, env=None):
        """Runs a command to its end; its output goes to FOLDER/NAME.txt. Returns the exit code."""
        with open(os.path.join(self.folder, "commands.txt"), "a") as commands:
            commands.write(f"{name}: {shlex.join(command)}\n")
        with open(os.path.join(self.folder, name + ".txt"), "w") as out:
            # Told to end if this process is killed.
            command = ["setpriv", "--pdeathsig", "TERM", *command]
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env)
            try:
                return self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.failures.append(f"{name}: ended after {timeout} s")
                return None
            finally:
                self.end_child()

    def end_child(self):
        """In order first: audit-loadgen then puts the audit system back."""
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child = None

    # ------------------------------------------------------------------------------------- settings of the kernel

    @contextlib.contextmanager
    def sysctl(self, **values):
        """Sets kernel settings, underscores for dots where a double one stands for one: net__core__rmem_max."""
        found = {}
        for key, value in values.items():
            path = "/proc/sys/" + key.replace("__", "/")
            with open(path) as file:
                found[path] = file.read().strip()
        # Puts them back when this process is gone, however it goes: then its end of the pipe is.
        script = "trap '' INT TERM HUP; cat >/dev/null; " + "; ".join(
            f"echo {shlex.quote(value)} >{path}" for path, value in found.items())
        guard = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)
        try:
            for key, value in values.items():
                with open("/proc/sys/" + key.replace("__", "/"), "w") as file:
                    file.write(str(value))
            yield
        finally:
            guard.stdin.close()
            guard.wait()

    @contextlib.contextmanager
    def busy(self, loops):
        """So many processes that do nothing but use the CPU."""
        command = [sys.executable, "-c", "while True: pass"]
        children = [subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command]) for _ in range(loops)]
        try:
            yield
        finally:
            for child in children:
                child.kill()
                child.wait()

    # --------------------------------------------------------------------------------------------------- tables

    def say(self, text=""):
        print(text, flush=True)
        with open(os.path.join(self.folder, "tables.md"), "a") as out:
            out.write(text + "\n")

    def table(self, head, rows):
        self.say("| " + " | ".join(head) + " |")
        self.say("|" + "---|" * len(head))
        for row in rows:
            self.say("| " + " | ".join(str(cell) for cell in row) + " |")
        self.say()

    def begin(self, name, title, command):
        """The heading of a table."""
        self.say(f"### {name}: {title}\n")
        self.say(f"`{command}` (load before: {os.getloadavg()[0]:.1f})\n")


class Report(dict):
    """A report of audit-loadgen, asked by path: report.at("target.cpu_s_per_million")."""

    def at(self, path):
        value = self
        for key in path.split("."):
            if not isinstance(value, dict) or value.get(key) is None:
                return None
            value = value[key]
        return value

    def median(self, path):
        """The median of several runs, of one run the figure."""
        value = self.at(f"spread.{path}.median")
        return self.at(path) if value is None else value

    def process(self, role, key):
        values = [one[key] for one in self.get("processes", []) if one["role"] == role and one.get(key) is not None]
        return max(values) if values else None

    def runs_sum(self, path):
        """Of several runs the sum, of one run the figure."""
        runs = [Report(run).at(path) for run in self.get("runs", [])] or [self.at(path)]
        return None if None in runs else sum(runs)


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def spread(report, path, digits=2):
    """`median (lowest to highest)`."""
    three = report.at("spread." + path)
    if not three:
        return number(report.at(path), digits)
    return f"{three['median']:.{digits}f} ({three['min']:.{digits}f} to {three['max']:.{digits}f})"


def ms(us, digits=2):
    return number(None if us is None else us / 1000, digits)


def mib(kib):
    return number(None if kib is None else kib / 1024)


def kept(report):
    value = report.at("generator.kept_plan")
    value = report.at("sender.kept_plan") if value is None else value
    return "-" if value is None else "kept" if value else "not kept"


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def conditions(harness):
    """Under which conditions, in lines."""
    def said(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            return (done.stdout or done.stderr).strip().splitlines()[0] if done.returncode == 0 else "-"
        except (OSError, IndexError, subprocess.TimeoutExpired):
            return "-"

    cpu = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    here = os.path.dirname(os.path.abspath(__file__))
    yield time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()) + f", load average {os.getloadavg()[0]:.2f}"
    yield f"commit {said('git', '-C', here, 'describe', '--always', '--dirty')}, seed 1"
    yield f"{os.cpu_count()} CPUs, {cpu[0] if cpu else '-'}, {said('uname', '-sr')}"
    yield f"{said(harness.relay_path, '--version')}, {said(harness.loadgen, '--version')}"
    yield said("rsyslogd", "-v").split("(")[0].strip() + ", " + said("syslog-ng", "--version")
    for name, root in zip(("SID", "SYSLOG_NG"), harness.roots):
        found = said("chroot", root, "rsyslogd", "-v").split("(")[0].strip()
        packages = os.path.join(root, "var/lib/dpkg/status")
        installed = said("dpkg-query", "--admindir", os.path.dirname(packages), "-W", "auditd") if os.path.exists(packages) else "-"
        yield f"{name} is {root}: {found}, {' '.join(installed.split())}"
