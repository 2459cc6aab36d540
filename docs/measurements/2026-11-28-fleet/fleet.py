#!/usr/bin/env python3
"""Receivers under many connections, with the shipped configurations. Root. Loopback only.

    fleet.py send   LOADGEN OUT.jsonl     audit-loadgen send: CPU seconds and memory of the receiver
    fleet.py storm  RELAY   OUT.jsonl N   N relays, each under a socket of its own; the receiver stops and returns

CPU is user + system of the receiver (utime, stime of /proc/PID/stat, ticks of 10 ms), from just before the first
connection until every record is in its file. Memory is VmHWM (peak) and VmRSS before the first connection.
"""
import json, os, re, resource, signal, socket, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
SHIPPED = os.path.join(HERE, "../../../packaging/receivers")
NG = os.environ.get("AUDIT_RELAY_SYSLOG_NG_ROOT", "/var/cache/audit-relay-test/syslog-ng")
TICK = os.sysconf("SC_CLK_TCK")
ROUNDS = int(os.environ.get("FLEET_ROUNDS", 3))
SECONDS = os.environ.get("FLEET_SECONDS", "4")
CONNECTIONS = [int(n) for n in os.environ.get("FLEET_CONNECTIONS", "10,100,500,1000").split(",")]
AWAY = float(os.environ.get("FLEET_AWAY", 10))

RECEIVERS = {  # name: (program, file, port in the file, scheme)
    "rsyslogd imtcp": ("rsyslog", "20-audit-tcp.conf", "601", "tcp"),
    "rsyslogd imptcp": ("rsyslog", "20-audit-ptcp.conf", "601", "tcp"),
    "rsyslogd imtcp ossl": ("rsyslog", "20-audit-tls-ossl.conf", "6514", "tls"),
    "rsyslogd imtcp gtls": ("rsyslog", "20-audit-tls-gtls.conf", "6514", "tls"),
    "rsyslogd imrelp": ("rsyslog", "20-audit-relp.conf", "2514", "relp"),
    "rsyslogd imrelp TLS": ("rsyslog", "20-audit-relps.conf", "2514", "relps"),
    "syslog-ng tcp": ("syslog-ng", "20-audit-tcp.conf", "601", "tcp"),
    "syslog-ng tls": ("syslog-ng", "20-audit-tls.conf", "6514", "tls"),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1] % 18000 + 10000


def certificates(folder, relay):
    """One self-signed certificate for localhost, by the relay itself."""
    subprocess.run([relay, "cert", "new", "--name", "localhost", "--name", "127.0.0.1", os.path.join(folder, "logs")],
                   check=True, stdout=subprocess.DEVNULL)
    os.chmod(os.path.join(folder, "logs.pem"), 0o644)
    data = open(os.path.join(folder, "logs.pem")).read()
    open(os.path.join(folder, "ca.pem"), "w").write(data)


class Receiver:
    def __init__(self, name, folder):
        self.program, file, old, self.scheme = RECEIVERS[name]
        self.folder, self.port, self.log = folder, free_port(), os.path.join(folder, "audit-relay.log")
        text = ""
        for part in ("10-audit.conf", file):
            text += open(os.path.join(SHIPPED, self.program, part)).read()
        text = text.replace("/var/log/audit-relay.log", self.log).replace("/etc/ssl/audit/", folder + "/")
        text = text.replace(f'port="{old}"', f'port="{self.port}"').replace(f"port({old})", f"port({self.port})")
        self.conf = os.path.join(folder, "receiver.conf")
        if self.program == "syslog-ng":
            text = "@version: 3.38\n" + text
        open(self.conf, "w").write(text)
        self.start()

    def start(self):
        env = dict(os.environ)
        if self.program == "rsyslog":
            command = ["rsyslogd", "-n", "-f", self.conf, "-i", self.folder + "/pid"]
            env["LD_PRELOAD"] = "libgcc_s.so.1"
        else:
            own = NG + "/usr/lib/syslog-ng"
            modules = next(os.path.join(own, d) for d in os.listdir(own) if os.path.isdir(os.path.join(own, d)))
            env["LD_LIBRARY_PATH"] = own
            command = [NG + "/usr/sbin/syslog-ng", "--foreground", "--no-caps", "--stderr", "--cfgfile", self.conf,
                       "--module-path=" + modules, f"--persist-file={self.folder}/persist",
                       f"--control={self.folder}/ctl", f"--pidfile={self.folder}/pid"]
        self.out = open(self.folder + "/receiver.out", "a")
        self.child = subprocess.Popen(command, env=env, stdout=self.out, stderr=self.out)
        for _ in range(400):
            if self.listens():
                return
            if self.child.poll() is not None:
                raise SystemExit(open(self.folder + "/receiver.out").read())
            time.sleep(0.02)
        raise SystemExit("does not listen")

    def listens(self):
        want = f":{self.port:04X} "
        return any(want in line and " 0A " in line for f in ("tcp", "tcp6") for line in open("/proc/net/" + f))

    def established(self):
        """Connections that the receiver has on its port."""
        count = 0
        for f in ("tcp", "tcp6"):
            for line in open("/proc/net/" + f):
                fields = line.split()
                if fields[1].endswith(f":{self.port:04X}") and fields[3] == "01":
                    count += 1
        return count

    def cpu(self):
        fields = open(f"/proc/{self.child.pid}/stat").read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, key):
        return int(re.search(key + r":\s+(\d+)", open(f"/proc/{self.child.pid}/status").read())[1])

    def lines(self):
        try:
            return int(subprocess.run(["wc", "-l", self.log], capture_output=True, text=True).stdout.split()[0])
        except (IndexError, ValueError):
            return 0

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def load():
    return os.getloadavg()[0]


def send(loadgen, out, relay):
    plans = [plan for plan in [(10, 2000), (100, 5000), (500, 10000), (1000, 20000)] if plan[0] in CONNECTIONS]
    for round_ in range(ROUNDS):
        for name in RECEIVERS:
            for connections, rate in plans:
                with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
                    os.chmod(folder, 0o755)
                    certificates(folder, relay)
                    receiver = Receiver(name, folder)
                    time.sleep(0.3)
                    rss, cpu = receiver.memory("VmRSS"), receiver.cpu()
                    report = os.path.join(folder, "report.json")
                    command = [loadgen, "send", "--to", f"{receiver.scheme}://localhost:{receiver.port}",
                               "--connections", str(connections), "--rate", str(rate), "--duration", SECONDS,
                               "--json", report]
                    if receiver.scheme in ("tls", "relps"):
                        command.append("--insecure")
                    begin, before = time.time(), load()
                    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
                    try:
                        data = json.load(open(report))
                    except (OSError, ValueError):
                        data = {}
                    sent = data.get("sent") or 0
                    for _ in range(300):
                        if receiver.lines() >= sent:
                            break
                        time.sleep(0.1)
                    used, peak, lines = receiver.cpu() - cpu, receiver.memory("VmHWM"), receiver.lines()
                    receiver.stop()
                    row = dict(kind="send", receiver=name, round=round_, connections=connections, rate=rate, sent=sent,
                               written=lines, cpu_s=round(used, 2),
                               cpu_s_per_million=round(used / lines * 1e6, 2) if lines else None, rss_kib=rss,
                               peak_kib=peak, kib_per_connection=round((peak - rss) / connections, 1),
                               seconds=round(time.time() - begin, 1), kept_plan=(data.get("sender") or {}).get("kept_plan"),
                               status=done.returncode, load=before, said=done.stderr[-200:])
                    open(out, "a").write(json.dumps(row) + "\n")


def storm(relay, out, count, names):
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    for name in names:
        for round_ in range(ROUNDS):
            with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
                os.chmod(folder, 0o755)
                certificates(folder, relay)
                receiver = Receiver(name, folder)
                before = load()
                feeds, children = [], []
                for n in range(count):
                    ours, theirs = socket.socketpair()
                    theirs.setblocking(True)
                    command = [relay, "--config", "none", "--to", f"{receiver.scheme}://localhost:{receiver.port}",
                               "--hostname", f"host-{n}", "--log", "none", "--handover", "off",
                               "--drain-timeout", "30s"]
                    if receiver.scheme in ("tls", "relps"):
                        command += ["--tls-ca", folder + "/ca.pem"]
                    children.append(subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL,
                                                     stderr=subprocess.DEVNULL, env={}))
                    theirs.close()
                    feeds.append(ours)
                number = [0]

                def feed():
                    for n, s in enumerate(feeds):
                        record = f"type=USER_CMD msg=audit({time.time():.3f}:{number[0]}): pid=1 uid=0 mark={n}.{number[0]}. pad={'x' * 200}\n"
                        s.send(record.encode())
                    number[0] += 1

                def feed_for(seconds, until=lambda: False):
                    end = time.time() + seconds
                    while time.time() < end and not until():
                        begin = time.time()
                        feed()
                        time.sleep(max(0, 0.2 - (time.time() - begin)))  # 5 records a second each

                begin = time.time()
                feed_for(60, lambda: receiver.established() >= count)
                first = time.time() - begin
                feed_for(3)
                rss = [int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{c.pid}/status").read())[1]) for c in children]
                receiver.stop()
                feed_for(AWAY)
                receiver.start()
                back = time.time()
                feed_for(90, lambda: receiver.established() >= count)
                all_back = time.time() - back
                cpu = receiver.cpu()
                feed_for(2)
                for s in feeds:
                    s.close()
                for c in children:
                    c.wait(60)
                statuses = [c.returncode for c in children]
                time.sleep(1)
                peak = receiver.memory("VmHWM")
                receiver.stop()
                marks = re.findall(r"mark=(\d+\.\d+)\.", open(receiver.log, errors="replace").read())
                fed = count * number[0]
                row = dict(kind="storm", receiver=name, round=round_, relays=count, first_s=round(first, 2),
                           all_back_s=round(all_back, 2), receiver_cpu_until_back_s=cpu, receiver_peak_kib=peak, fed=fed,
                           arrived=len(set(marks)), missing=fed - len(set(marks)), twice=len(marks) - len(set(marks)),
                           relay_rss_kib=[min(rss), sorted(rss)[len(rss) // 2], max(rss)],
                           statuses={str(s): statuses.count(s) for s in set(statuses)}, load=before)
                open(out, "a").write(json.dumps(row) + "\n")


if __name__ == "__main__":
    what, program, out = sys.argv[1:4]
    if what == "send":
        send(program, out, os.path.join(os.path.dirname(program), "audit-relay"))
    else:
        storm(program, out, int(sys.argv[4]), sys.argv[5:] or ["rsyslogd imtcp ossl"])
