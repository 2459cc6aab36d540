"""Tables of tuning.md about the kernel's settings for sockets."""
from .harness import kept, mib, number, spread


def max_dgram_qlen(h, name, title):
    args = ["--to", "unix", "--feed", "pipe", "--count", h.count(1_000_000), "--runs", h.rounds(3)]
    h.begin(name, title, "sysctl net.unix.max_dgram_qlen=N; audit-loadgen run " + " ".join(args))
    rows = []
    for length in (10, 512):
        with h.sysctl(net__unix__max_dgram_qlen=length):
            report = h.measure(f"{name}-{length}", "run", *args)
        rows.append([length, spread(report, "target.cpu_s_per_million"), number(report.median("rate")), number(report.runs_sum("lost"))])
    h.table(["", "CPU s/M", "records/s", "lost"], rows)


def udp_buffers(h, name, title):
    """A receiver that stands still for a moment. One that asks for a buffer gets rmem_max, one that does not rmem_default.

    Without CAP_NET_ADMIN, as a receiver should be: with it one may pass over rmem_max. wmem_max has no row: nobody here asks for a send
    buffer, and on loopback a full receiver drops, it does not hold up.
    """
    args = ["--to", "udp", "--rate", "20000", "--duration", h.seconds(3), "--sink-stall", "500ms:200ms", "--allow-loss"]
    without = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    h.begin(name, title, "sysctl net.core.rmem_max=N net.core.rmem_default=M; setpriv --bounding-set -net_admin --inh-caps -net_admin audit-loadgen run " + " ".join(args) + " --sink-buffer 67108864|0")
    rows = []
    for most, usual, asks in (
        (212_992, 212_992, True),
        (1 << 20, 212_992, True),
        (8 << 20, 212_992, True),
        (64 << 20, 212_992, True),
        (64 << 20, 212_992, False),
        (212_992, 8 << 20, False),
    ):
        buffer = str(64 << 20) if asks else "0"
        with h.sysctl(net__core__rmem_max=most, net__core__rmem_default=usual):
            file = f"{name}-max-{most}-default-{usual}-{'asks' if asks else 'does-not-ask'}"
            report = h.measure(file, "run", *args, "--sink-buffer", buffer, before=without)
        rows.append(
            [f"{most:,}", f"{usual:,}", "64 MiB" if asks else "nothing", number(report.at("sent")), number(report.at("lost"))]
            + [number(report.at("sink.socket_drops")), kept(report)]
        )
    h.table(["`rmem_max`", "`rmem_default`", "the receiver asks for", "records", "lost", "dropped at its socket", "plan"], rows)


def tcp_rmem(h, name, title):
    """A receiver that is slower than what comes, so that its buffer is full, is reset: what lies unread is gone.

    Once: the second connection, with what is sent again, ends before it has brought as much.
    """
    rate, read, size = (20_000, 5_000_000, 12_000_000) if h.quick else (50_000, 12_000_000, 30_000_000)
    args = ["--to", "tcp", "--rate", str(rate), "--duration", "2", "--sink-read-rate", str(read), "--sink-buffer", "0"]
    args += ["--sink-reset-after", str(size), "--allow-loss"]
    h.begin(name, title, 'sysctl net.ipv4.tcp_rmem="4096 131072 N"; audit-loadgen run ' + " ".join(args) + " -- audit-relay ... --drain-timeout 30s --handover off --replay VALUE")
    sizes = ("2MiB", "3MiB") if h.quick else ("8MiB", "16MiB")
    rows = []
    for most, value in ((131_072, "unacked"), (1 << 20, "unacked"), (6 << 20, "unacked"), (32 << 20, "unacked"), (6 << 20, sizes[0]), (32 << 20, sizes[1])):
        with h.sysctl(net__ipv4__tcp_rmem=f"4096 131072 {most}"):
            report = h.measure(f"{name}-{most}-{value}", "run", *args, *h.relay("--replay", value, "--drain-timeout", "30s", "--handover", "off"))
        rows.append(
            [f"{most:,}", f"`{value}`", number(report.at("sent")), number((report.at("sink.connections") or 1) - 1)]
            + [number(report.at("lost")), number(report.at("duplicated")), mib(report.at("target.max_rss_kib")), kept(report)]
        )
    h.table(["highest `tcp_rmem`", "`replay`", "records", "resets", "lost", "twice", "relay's memory, MiB", "plan"], rows)
