#!/usr/bin/env python3
"""Memory of one relay whose receiver is away: queue.py RELAY CAPTURE OUT.jsonl. VmRSS while N records wait."""
import json, re, socket, subprocess, sys, time

relay, capture, out = sys.argv[1:4]
lines = [l for l in open(capture, "rb").read().split(b"\n") if l and not l.startswith(b"type=EOE")]
mean = sum(map(len, lines)) / len(lines)
for count in (0, 10_000, 50_000, 100_000, 200_000, 400_000):
    ours, theirs = socket.socketpair()
    child = subprocess.Popen([relay, "--config", "none", "--to", "tcp://127.0.0.1:1", "--hostname", "web-1.example.org",
                              "--log", "none", "--handover", "off", "--queue-size", "512MiB", "--drain-timeout", "0ms",
                              "--report", f"{out}.report"], stdin=theirs, env={})
    theirs.close()
    rss = lambda: int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{child.pid}/status").read())[1])
    time.sleep(0.5)
    before = rss()
    for n in range(0, count, 100):
        ours.sendall(b"".join(lines[m % len(lines)] + b"\n" for m in range(n, n + 100)))
    time.sleep(1)
    after = rss()
    ours.close()
    child.wait()
    report = json.load(open(f"{out}.report"))["destinations"][0]
    row = dict(kind="queue", records=count, mean_record=round(mean, 1), before_kib=before, after_kib=after,
               bytes_per_record=round((after - before) * 1024 / count, 1) if count else None, lost=report["lost"])
    open(out, "a").write(json.dumps(row) + "\n")
