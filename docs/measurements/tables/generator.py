"""Tables of tuning.md about the load generator itself."""
from .harness import kept, ms, number


def generator(h, name, title):
    h.begin(name, title, "as the rows say; 256 B a message")
    kinds = [
        ("send", ["--size", "200", "--count", h.count(6_000_000)]),
        ("send-udp", ["--to", "self:udp", "--size", "200", "--count", h.count(1_000_000)]),
        ("send-udp-bare", ["--to", "self:udp", "--size", "200", "--count", h.count(1_000_000), "--bare"]),
    ]
    rounds = range(int(h.rounds(3)))
    # In turns, so that what else the machine does falls on all of them.
    found = {(kind, turn): h.measure(f"{name}-{kind}-{turn + 1}", "send", *args) for turn in rounds for kind, args in kinds}
    rows = []
    for kind, args in kinds:
        runs = [found[kind, turn] for turn in rounds]

        def millions(run, part):
            count, seconds = run.at("sent"), run.at("sender.seconds")
            value = count / seconds if part == "sent" and count and seconds else run.at("rate")
            return number(value and value / 1e6, 2)

        rows.append(
            [f"`send {' '.join(args)}`", ", ".join(millions(run, "sent") for run in runs), ", ".join(millions(run, "received") for run in runs)]
            + [", ".join(number(run.at("sender.cpu_s_per_million"), 3) for run in runs)]
            + ["not judged" if "--bare" in args else ", ".join(number(run.at("lost")) for run in runs)]
        )
    h.table(["", "millions/s sent", "received", "sender's CPU s/M", "lost"], rows)
    args = ["--rate", "20000", "--duration", "2" if h.quick else "5", "--sink-stall", "500ms:1s" if h.quick else "2s:1s"]
    report = h.measure(f"{name}-stall", "run", *args)
    figures = ", ".join(f"{key} {ms(report.at(f'latency_us.{key}'), 1)} ms" for key in ("p50", "p90", "p99", "max"))
    h.say(f"`run {' '.join(args)}`: {figures}, lost {number(report.at('lost'))}.\n")


def connections(h, name, title):
    args = ["--rate", "100000", "--duration", h.seconds(5)]
    h.begin(name, title, "audit-loadgen send --connections N " + " ".join(args))
    rows = []
    for count in ("1", "100", "1000"):
        report = h.measure(f"{name}-{count}", "send", "--connections", count, *args)
        rows.append(
            [f"{int(count):,}", number(report.at("sent")), number(report.at("lost"))]
            + [ms(report.at(f"latency_us.{key}")) for key in ("p50", "p99", "max")]
            + [number(report.at("sender.cpu_s_per_million"), 2), number(report.at("sink.cpu_s_per_million"), 2)]
            + [ms(report.at("sender.worst_lag_us")), number(report.at("sender.late")), kept(report)]
        )
    head = ["connections", "sent", "lost", "p50, ms", "p99, ms", "max, ms", "sender's CPU s/M", "sink's", "worst own lag, ms", "late", "plan"]
    h.table(head, rows)
