"""Tables of docs/sizing.md. The method is that of 2026-11-28-fleet, whose programs these are."""
import json, os, statistics, sys

from .harness import number

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../2026-11-28-fleet")
CAPTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../tests/data/string.log")


def _rows(h, name, *command, timeout, **settings):
    file = os.path.join(h.folder, name + ".jsonl")
    if os.path.exists(file):
        os.remove(file)
    words = [sys.executable, os.path.join(PROGRAMS, command[0]), *(file if word == "OUT" else word for word in command[1:])]
    env = dict(os.environ, **settings)
    if len(h.roots) > 1:
        env["AUDIT_RELAY_SYSLOG_NG_ROOT"] = h.roots[1]
    if h.run(name, words, timeout, env) != 0:
        h.failures.append(f"{name}: see {name}.txt")
    try:
        with open(file) as lines:
            return [json.loads(line) for line in lines]
    except OSError:
        return []


def fleet(h, name, title):
    h.begin(name, title, "FLEET_ROUNDS=1 fleet.py send audit-loadgen OUT.jsonl")
    settings = {"FLEET_ROUNDS": "1", "FLEET_SECONDS": "4"}
    if h.quick:
        settings.update(FLEET_SECONDS="1", FLEET_CONNECTIONS="10,100")
    rows = _rows(h, name, "fleet.py", "send", h.loadgen, "OUT", timeout=600, **settings)
    plans = sorted({(row["connections"], row["rate"]) for row in rows})
    names = list(dict.fromkeys(row["receiver"] for row in rows))
    one = {(row["receiver"], row["connections"]): row for row in rows}
    h.say("CPU seconds of the receiver for a million records:\n")
    h.table(
        ["receiver", *(f"{count} × {rate // count}/s" for count, rate in plans)],
        [[who, *(number(one.get((who, count), {}).get("cpu_s_per_million")) for count, _ in plans)] for who in names],
    )
    h.say("Memory of the receiver:\n")
    most = max((count for count, _ in plans), default=0)
    of_most = [one[who, most] for who in names if (who, most) in one]
    h.table(
        ["receiver", "empty, MiB", f"peak with {most:,}, MiB", "KiB a connection"],
        [[row["receiver"], number(row["rss_kib"] / 1024), number(row["peak_kib"] / 1024), number(row["kib_per_connection"])] for row in of_most],
    )
    missing, sent = sum(row["sent"] - row["written"] for row in rows), sum(row["sent"] for row in rows)
    late = sum(not row["kept_plan"] for row in rows)
    h.say(f"Missing {missing:,} of {sent:,}; the sender was late by its own plan in {late} of {len(rows)} runs.\n")


def storm(h, name, title):
    h.begin(name, title, "FLEET_ROUNDS=1 fleet.py storm audit-relay OUT.jsonl RELAYS RECEIVER ...")
    settings = {"FLEET_ROUNDS": "1", **({"FLEET_AWAY": "2"} if h.quick else {})}
    names = ["rsyslogd imtcp ossl", "rsyslogd imrelp TLS", "syslog-ng tls"]
    small = _rows(h, name + "-200", "fleet.py", "storm", h.relay_path, "OUT", "20" if h.quick else "200", *names, timeout=400, **settings)
    large = _rows(h, name + "-1000", "fleet.py", "storm", h.relay_path, "OUT", "40" if h.quick else "1000", names[0], timeout=300, **settings)
    figure = lambda value: number(value, 1)  # noqa: E731
    h.table(
        ["receiver", "relays", "first connected, s", "all back, s", "CPU of it, s", "peak, MiB", "fed", "missing", "twice"],
        [
            [row["receiver"], number(row["relays"]), figure(row["first_s"]), figure(row["all_back_s"])]
            + [figure(row["receiver_cpu_until_back_s"]), number(row["receiver_peak_kib"] / 1024)]
            + [number(row["fed"]), number(row["missing"]), number(row["twice"])]
            for row in small + large
        ],
    )
    if small:
        typical = statistics.median(row["relay_rss_kib"][1] for row in small)
        h.say(f"A relay with nothing waiting: {typical / 1024:.1f} MiB.\n")


def memory(h, name, title):
    h.begin(name, title, "queue.py audit-relay tests/data/string.log OUT.jsonl")
    rows = _rows(h, name, "queue.py", h.relay_path, CAPTURE, "OUT", timeout=120)
    h.table(
        ["records waiting", "mean record, B", "memory, MiB", "bytes a record"],
        [
            [number(row["records"]), number(row["mean_record"]), number(row["after_kib"] / 1024, 1), number(row["bytes_per_record"])]
            for row in rows
        ],
    )
