"""Tables of tuning.md about the whole chain: kernel, auditd, plugin, receiver."""
from .harness import Report, kept, mib, ms, number

# The backlog is large so that a late auditd is seen in its queue, not as a wait of whoever makes events.
BACKLOG = ["--backlog", "65536"]


def _us(report, who):
    return number(report.median(f"{who}.cpu_us_per_record"), 1)


def _queue(report):
    """The fullest of all runs."""
    runs = [Report(run) for run in report.get("runs", [])] or [report]
    value = max((run.at("auditd.queue_max") or 0 for run in runs), default=None)
    return number(value) + (" FULL" if any(run.at("auditd.queue_overflowed") for run in runs) else "")


def _faults(report):
    """What should be nothing; told only if it is not."""
    keys = ("lost", "incomplete", "torn", "duplicated", "kernel.lost")
    found = [f"{number(report.runs_sum(key))} {key}" for key in keys if report.runs_sum(key)]
    return ", ".join(found) or "none"


def chain(h, name, title):
    # Few records weigh nothing beside a start and an end: those loads run for longer.
    seconds, longer, runs = h.seconds(5), h.seconds(15), h.rounds(3)
    command = f"audit-loadgen kernel --root SID {' '.join(BACKLOG)} --duration {seconds} (100 events/s: {longer}) --runs {runs} --load LOAD --rate RATE --write-logs yes|no"
    h.begin(name, title, command)
    loads = [("user", 100), ("user", 1000), ("user", 10000), ("user", 30000)]
    loads += [("exec", 100), ("exec", 1000), ("open", 1000), ("open", 10000)]
    rows, cores = [], []
    for load, rate in loads:
        row, core, faults = [f"{load}, {rate:,} events/s"], [], []
        for logs in ("yes", "no"):
            args = ["--load", load, "--rate", str(rate), "--duration", longer if rate == 100 else seconds]
            args += ["--runs", runs, "--write-logs", logs]
            report = h.kernel(f"{name}-{load}-{rate}-logs-{logs}", *BACKLOG, *args)
            if logs == "yes":
                row.append(number(report.at("records_per_s")))
            row += [_us(report, "auditd"), _us(report, "plugin"), number(report.median("relay_share_of_auditd"), 2), _queue(report)]
            core = [report.process("plugin", "cpu_percent"), report.process("auditd", "cpu_percent"), *core[1:2]]
            memory = report.process("plugin", "max_rss_kib")
            faults.append(_faults(report) + ("" if kept(report) == "kept" else ", plan not kept"))
        rows.append([*row, " / ".join(dict.fromkeys(faults))])
        core += [None] * (3 - len(core))
        cores.append([row[0], row[1], *(f"{number(cell, 1)} %" for cell in core), f"{mib(memory)} MiB"])
    head = ["load", "records/s", "auditd, logs yes", "relay", "share", "queue", "auditd, logs no", "relay", "share", "queue", "faults"]
    h.table(head, rows)
    h.say("Of a core:\n")
    h.table(["", "records/s", "audit-relay", "auditd, logs no", "auditd, logs yes", "relay's memory"], cores)
    h.say("A bare read-format-write loop (`-- audit-loadgen floor-child --to {to}`) as the plugin, logs no:\n")
    rows = []
    for load in ("user", "exec"):
        args = ["--load", load, "--rate", "100", "--duration", longer, "--runs", runs, "--write-logs", "no"]
        report = h.kernel(f"{name}-{load}-100-floor", *BACKLOG, *args, "--", h.loadgen, "floor-child", "--to", "{to}")
        rows.append([f"{load}, 100 events/s", _us(report, "auditd"), _us(report, "plugin"), number(report.median("relay_share_of_auditd"), 2)])
    h.table(["load", "auditd", "loop", "share"], rows)


def plugins(h, name, title):
    command = "audit-loadgen kernel --root SID --rate RATE --duration 4 --write-logs yes --to unix -- /sbin/audisp-syslog LOG_LOCAL6"
    h.begin(name, title, command)
    rows = []
    for rate in ("10000", "30000"):
        args = ["--rate", rate, "--duration", h.seconds(4), "--write-logs", "yes"]
        for label, more in (
            ("audisp-syslog, /dev/log", ["--to", "unix", "--", "/sbin/audisp-syslog", "LOG_LOCAL6"]),
            ("audit-relay, TCP", []),
        ):
            report = h.kernel(f"{name}-{label.split(',')[0]}-{rate}", *BACKLOG, *args, *more)
            rows.append(
                [label, f"{int(rate):,}", _us(report, "plugin"), _us(report, "auditd"), _queue(report)]
                + [number(report.at("lost")), number(report.at("torn")), kept(report)]
            )
    h.table(["plugin", "records/s", "plugin, µs", "auditd, µs", "queue, of 2000", "lost", "torn", "plan"], rows)


def q_depth(h, name, title):
    args = ["--rate", "40000", "--duration", h.seconds(4), "--write-logs", "yes"]
    h.begin(name, title, f"audit-loadgen kernel --root SID {' '.join(BACKLOG + args)} --q-depth N")
    rows = []
    for depth in ("400", "2000", "10000"):
        report = h.kernel(f"{name}-{depth}", *BACKLOG, *args, "--q-depth", depth)
        rows.append(
            [depth, _queue(report), number(report.at("lost")), number(report.at("kernel.backlog_max"))]
            + [number(report.at("kernel.lost")), number(report.at("records_per_s"))]
        )
    h.table(["`q_depth`", "fullest", "lost", "kernel backlog at most", "kernel lost", "records/s"], rows)


def flush(h, name, title):
    # As fast as auditd takes them. A small backlog: what cannot be written is to hold up the load, not to be written for
    # minutes afterwards.
    args = ["--rate", "0", "--duration", h.seconds(4), "--backlog", "256", "--write-logs", "yes"]
    h.begin(name, title, f"audit-loadgen kernel --root SID {' '.join(args)} --work /dev/shm|/var/tmp --auditd-set flush=F --auditd-set freq=50")
    rows = []
    for place, work in (("tmpfs", "/dev/shm"), ("disk", "/var/tmp")):
        for value in ("NONE", "INCREMENTAL", "INCREMENTAL_ASYNC", "DATA", "SYNC"):
            settings = ["--auditd-set", f"flush={value}"]
            # freq is of the two that count only; with the others auditd warns.
            settings += ["--auditd-set", "freq=50"] if value.startswith("INCREMENTAL") else []
            report = h.kernel(f"{name}-{place}-{value}", *args, "--work", work, *settings, timeout=400)
            rows.append(
                [place, f"`{value}`", number(report.at("records_per_s")), _us(report, "auditd"), _us(report, "plugin")]
                + [_queue(report), _faults(report)]
            )
    head = ["log on", "`flush`", "records/s at most", "auditd, µs", "relay, µs", "queue", "lost"]
    h.table(head, rows)


def priority_boost(h, name, title):
    args = ["--rate", "10000", "--duration", h.seconds(4), "--write-logs", "no", "--runs", h.rounds(3)]
    h.begin(name, title, f"four busy loops at nice 0; audit-loadgen kernel --root SID {' '.join(BACKLOG + args)} --auditd-set priority_boost=N")
    rows = []
    for boost in ("0", "4", "10"):
        with h.busy(4):
            report = h.kernel(f"{name}-{boost}", *BACKLOG, *args, "--auditd-set", f"priority_boost={boost}")
        # The highest of all runs: a queue that ran full once has run full.
        highest = lambda path: max([value for run in report.get("runs", [report]) if (value := type(report)(run).at(path)) is not None], default=None)  # noqa: E731
        rows.append(
            [boost, ms(report.median("latency_us.p50"), 1), ms(report.median("latency_us.p99"), 1), ms(report.median("latency_us.max"), 1)]
            + [number(highest("auditd.queue_max")), number(highest("kernel.backlog_max"))]
            + [_us(report, "auditd"), _us(report, "plugin"), _faults(report), kept(report)]
        )
    head = ["`priority_boost`", "p50, ms", "p99, ms", "max, ms", "queue at most", "kernel backlog at most", "auditd, µs", "relay, µs", "lost", "plan"]
    h.table(head, rows)


def log_format(h, name, title):
    args = ["--duration", h.seconds(4), "--write-logs", "no", "--runs", h.rounds(3)]
    h.begin(name, title, f"audit-loadgen kernel --root SID {' '.join(BACKLOG + args)} --load LOAD --rate RATE --log-format enriched|raw")
    rows = []
    for load, rate in (("user", "10000"), ("open", "2500")):
        for value in ("enriched", "raw"):
            report = h.kernel(f"{name}-{load}-{value}", *BACKLOG, *args, "--load", load, "--rate", rate, "--log-format", value)
            rows.append(
                [f"{load}, {int(rate):,} events/s", f"`{value.upper()}`", number(report.median("records_per_s"))]
                + [_us(report, "auditd"), _us(report, "plugin"), ms(report.median("latency_us.p99"), 1), _faults(report)]
            )
    h.table(["load", "`log_format`", "records/s", "auditd, µs", "relay, µs", "p99, ms", "lost"], rows)


def gather(h, name, title):
    args = ["--load", "user", "--duration", h.seconds(4), "--write-logs", "no"]
    h.begin(name, title, f"audit-loadgen kernel --root SID {' '.join(BACKLOG + args)} --rate RATE -- audit-relay ... --gather TIME")
    rows = []
    for time in ("0ms", "1ms", "5ms", "20ms"):
        row = [f"`{time}`" + (" (default)" if time == "5ms" else "")]
        for rate in ("1000", "10000"):
            report = h.kernel(f"{name}-{time}-{rate}", *BACKLOG, *args, "--rate", rate, *h.relay("--gather", time))
            row += [_us(report, "plugin"), number(report.at("relay_share_of_auditd"), 2)]
            row += [ms(report.at("latency_us.p50")), ms(report.at("latency_us.p99"), 1)]
        rows.append(row)
    h.table(["", "1000/s: µs", "share", "p50", "p99", "10,000/s: µs", "share", "p50", "p99"], rows)
