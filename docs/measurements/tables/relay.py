"""Tables of tuning.md about the relay alone and beside its peers."""
from .harness import kept, median, mib, ms, number, spread

PEERS = "audit-relay,floor,pump,audisp-syslog,rsyslogd,syslog-ng,logger,socat"


def _roots(h):
    return [word for root in h.roots for word in ("--root", root)]


def _contestants(report, to):
    """Those of one receiver, the cheapest first, and what floor and relay cost."""
    all_of = [one for one in report.get("contestants", []) if one["to"] == to]
    cost = lambda one: (one["cpu_s_per_million"] or {}).get("median")  # noqa: E731
    unit = lambda name: next((cost(one) for one in all_of if one["name"].split()[0] == name), None)  # noqa: E731
    ranked = sorted(all_of, key=lambda one: (cost(one) is None, cost(one)))
    return ranked, cost, unit("floor"), unit("audit-relay")


def _times(cost, unit):
    return number(cost / unit if cost is not None and unit else None, 1)


def compare(h, name, title):
    receivers = ["tcp", "tls", "unix"]
    args = ["--to", ",".join(receivers), "--feed", "pipe", "--count", h.count(500_000), "--runs", h.rounds(3), "--only", PEERS]
    h.begin(name, title, "audit-loadgen compare --root SID --root SYSLOG_NG " + " ".join(args))
    report = h.measure(name, "compare", *_roots(h), *args, timeout=900)
    _costs(h, report, receivers)


def datagrams(h, name, title):
    """As compare, with the queue of a datagram socket that systemd sets at boot."""
    args = ["--to", "unix", "--feed", "pipe", "--count", h.count(500_000), "--runs", h.rounds(5), "--only", PEERS]
    h.begin(name, title, "sysctl net.unix.max_dgram_qlen=512; audit-loadgen compare --root SID --root SYSLOG_NG " + " ".join(args))
    with h.sysctl(net__unix__max_dgram_qlen=512):
        report = h.measure(name, "compare", *_roots(h), *args, timeout=900)
    _costs(h, report, ["unix"])


def _costs(h, report, receivers):
    for to in receivers:
        ranked, cost, floor, relay = _contestants(report, to)
        h.say(f"To {to}:\n")
        h.table(
            ["", "CPU s/M, median", "runs", "times the floor", "times audit-relay", "records/s", "lost", "torn"],
            [
                [
                    one["name"],
                    number(cost(one), 3),
                    "{min:.3f} to {max:.3f}".format(**one["cpu_s_per_million"]) if one["cpu_s_per_million"] else "-",
                    _times(cost(one), floor),
                    _times(cost(one), relay),
                    number((one["rate"] or {}).get("median")),
                    number(one["lost"]),
                    number(one["torn"]),
                ]
                for one in ranked
            ],
        )
    _remarks(h, report)


def latency(h, name, title):
    receivers = ["tcp", "unix"]
    args = ["--to", ",".join(receivers), "--feed", "socketpair", "--rate", "20000", "--count", h.count(60_000)]
    args += ["--runs", h.rounds(3), "--only", PEERS]
    h.begin(name, title, "audit-loadgen compare --root SID --root SYSLOG_NG " + " ".join(args))
    report = h.measure(name, "compare", *_roots(h), *args, timeout=900)
    for to in receivers:
        ranked, cost, _, relay = _contestants(report, to)
        figure = lambda one, key: median([(run.get("latency_us") or {}).get(key) for run in one["runs"]])  # noqa: E731
        h.say(f"To {to}, medians of the rounds, latency in ms from the intended moment of the write:\n")
        h.table(
            ["", "p50", "p99", "p99.9", "max", "CPU s/M", "times audit-relay", "lost", "torn"],
            [
                [one["name"], *(ms(figure(one, key)) for key in ("p50", "p99", "p999", "max"))]
                + [number(cost(one), 2), _times(cost(one), relay), number(one["lost"]), number(one["torn"])]
                for one in ranked
            ],
        )
    _remarks(h, report)


def _remarks(h, report):
    for one in report.get("contestants", []):
        for remark in one.get("remarks", []):
            h.say(f"- {one['name']} to {one['to']}: {remark}")
    for one in report.get("absent", []):
        h.say(f"- absent: {one['name']}: {one['why']}")
    h.say()


def alone(h, name, title):
    args = ["--rate", "20000", "--duration", h.seconds(5)]
    h.begin(name, title, "audit-loadgen run|floor " + " ".join(args))
    kinds = [
        ("floor", "floor", "floor", []),
        ('audit-relay, `gather = "0ms"`', "gather-0ms", "run", h.relay("--gather", "0ms")),
        ("audit-relay", "relay", "run", h.relay()),
    ]
    rounds = range(int(h.rounds(3)))
    found = {
        (label, turn): h.measure(f"{name}-{file}-{turn + 1}", what, *args, *more)
        for turn in rounds
        for label, file, what, more in kinds
    }
    each = lambda label, path, digits: ", ".join(number(found[label, turn].at(path), digits) for turn in rounds)  # noqa: E731
    h.table(
        ["", "p50", "p90", "p99", "max", "CPU s/M", "lost", "plan"],
        [
            [label, *(each(label, f"latency_us.{key}", 0) for key in ("p50", "p90", "p99", "max"))]
            + [each(label, "target.cpu_s_per_million", 1), each(label, "lost", 0)]
            + [", ".join(kept(found[label, turn]) for turn in rounds)]
            for label, _, _, _ in kinds
        ],
    )


def minute(h, name, title):
    seconds = "6" if h.quick else "60"
    args = ["--rate", "100000", "--duration", seconds]
    h.begin(name, title, "audit-loadgen run|floor " + " ".join(args))
    rows = []
    for label, what in (("audit-relay", "run"), ("floor", "floor")):
        report = h.measure(f"{name}-{label}", what, *args)
        interval = report.at("timeline.interval_s") or 1
        memory = [kib for kib in report.at("timeline.rss_kib") or [] if kib]
        early = memory[min(int(6 / interval), len(memory) - 1)] if memory else None
        rows.append(
            [label, number(report.at("sent")), number(report.at("lost"))]
            + [number(report.at(f"latency_us.{key}")) for key in ("p50", "p99", "p999", "max")]
            + [number(report.at("target.cpu_s_per_million"), 2)]
            + [number(kib and kib / 1024, 1) for kib in (early, memory[-1] if memory else None)]
            + [kept(report)]
        )
    h.table(["", "records", "lost", "p50", "p99", "p99.9", "max", "CPU s/M", "MiB after 6 s", "at the end", "plan"], rows)


def _runs(h, name, rows, args):
    """A table of `run`s, each with a program of its own."""
    out = []
    for label, file, more, program in rows:
        report = h.measure(f"{name}-{file}", "run", *more, *args, *program)
        out.append([label, spread(report, "target.cpu_s_per_million"), number(report.median("rate")), number(report.runs_sum("lost"))])
    h.table(["", "CPU s/M", "records/s", "lost"], out)


def threads(h, name, title):
    args = ["--runs", h.rounds(3)]
    pipe = ["--feed", "pipe", "--count", h.count(2_000_000)]
    pair = ["--count", h.count(1_000_000)]
    h.begin(name, title, "audit-loadgen run " + " ".join(pipe + args) + " -- audit-relay ... --threads N, and with " + " ".join(pair) + " ... --on-full block")
    rows = [(f"pipe, {n}", f"pipe-{n}", pipe, h.relay("--threads", n)) for n in ("1", "2")]
    rows += [(f"socket pair, {n}", f"socketpair-{n}", pair, h.relay("--threads", n, "--on-full", "block")) for n in ("1", "2")]
    _runs(h, name, rows, args)


def queue(h, name, title):
    stall = ["--rate", "50000", "--duration", h.seconds(6)]
    stall += ["--sink-stall", "500ms:500ms" if h.quick else "2s:2s", "--sink-buffer", "262144", "--allow-loss"]
    h.begin(name, title, "audit-loadgen run " + " ".join(stall) + " -- audit-relay ... --queue-size N")
    rows = []
    for size in ("1MiB", "64MiB"):
        report = h.measure(f"{name}-{size}", "run", *stall, *h.relay("--queue-size", size))
        rows.append([f"`{size}`", number(report.at("sent")), number(report.at("lost")), mib(report.at("target.max_rss_kib"))])
    h.table(["`queue-size`", "records", "lost, and said so in the stream", "memory, MiB"], rows)


def replay(h, name, title):
    args = ["--feed", "pipe", "--count", h.count(2_000_000), "--runs", h.rounds(3)]
    h.begin(name, title, "audit-loadgen run " + " ".join(args) + " -- audit-relay ... --replay N")
    _runs(h, name, [(f"`{value}`", value, [], h.relay("--replay", value)) for value in ("off", "unacked", "8MiB")], args)


def kills(h, name, title):
    args = ["--feed", "pipe", "--count", h.count(1_000_000), "--sink-buffer", "262144", "--sink-reset-after", "20000000", "--allow-loss"]
    h.begin(name, title, "audit-loadgen run --to TO " + " ".join(args) + " -- audit-relay ... --replay N")
    rows = []
    for to, value in (("tcp", "unacked"), ("tls", "unacked"), ("tcp", "8MiB"), ("tls", "8MiB"), ("relp", "unacked")):
        relay = h.relay("--replay", value, "--handover", "off", *(["--tls-ca", "{ca}"] if to == "tls" else []))
        report = h.measure(f"{name}-{to}-{value}", "run", "--to", to, *args, *relay, timeout=120)
        # The last connection ends in order.
        resets, lost = max((report.at("sink.connections") or 0) - 1, 0), report.at("lost")
        each = number(lost / resets if resets and lost is not None else None)
        rows.append([f"{to.upper()}, `{value}`", number(report.at("sent")), number(resets), number(lost), each, number(report.at("duplicated"))])
    h.table(["", "records", "kills", "missing", "a kill", "arrived twice"], rows)


def relp(h, name, title):
    args = ["--feed", "pipe", "--count", h.count(1_000_000), "--runs", h.rounds(3)]
    h.begin(name, title, "audit-loadgen run --to relp|relps " + " ".join(args))
    _runs(h, name, [(label, to, ["--to", to], []) for label, to in (("RELP", "relp"), ("RELP over TLS", "relps"))], args)
