#!/usr/bin/env python3
"""The tables of docs/sizing.md out of *.jsonl beside this file."""
import json, os, statistics as st
here = os.path.dirname(os.path.abspath(__file__))
def rows(name):
    try:
        return [json.loads(l) for l in open(os.path.join(here, name))]
    except OSError:
        return []
def three(values, form="{:.0f}"):
    values = sorted(values)
    return f"{form.format(st.median(values))} ({form.format(values[0])} to {form.format(values[-1])})"
send = rows("send.jsonl")
names = list(dict.fromkeys(r["receiver"] for r in send))
plans = sorted({(r["connections"], r["rate"]) for r in send})
print("| receiver | " + " | ".join(f"{c} × {r // c}/s" for c, r in plans) + " |")
print("|---|" + "---|" * len(plans))
for n in names:
    cells = []
    for c, r in plans:
        these = [x for x in send if (x["receiver"], x["connections"]) == (n, c)]
        cells.append(three([x["cpu_s_per_million"] for x in these]) if these else "-")
    print(f"| {n} | " + " | ".join(cells) + " |")
print()
print("| receiver | empty, MiB | peak with 1,000, MiB | KiB a connection |")
print("|---|---|---|---|")
for n in names:
    these = [x for x in send if (x["receiver"], x["connections"]) == (n, 1000)]
    if these:
        print(f"| {n} | {st.median(x['rss_kib'] for x in these) / 1024:.0f} | {three([x['peak_kib'] / 1024 for x in these])} | {three([x['kib_per_connection'] for x in these])} |")
print()
print("missing:", sum(x["sent"] - x["written"] for x in send), "of", sum(x["sent"] for x in send), "rows", len(send), "load", three([x["load"] for x in send], "{:.1f}"), "kept", sum(bool(x["kept_plan"]) for x in send))
print()
print("| receiver | relays | first connected, s | all back, s | CPU of it, s | peak, MiB | fed | missing | twice |")
print("|---|---|---|---|---|---|---|---|---|")
storm = rows("storm.jsonl") + rows("storm1000.jsonl")
for n, c in dict.fromkeys((r["receiver"], r["relays"]) for r in storm):
    these = [x for x in storm if (x["receiver"], x["relays"]) == (n, c)]
    print(f"| {n} | {c} | {three([x['first_s'] for x in these], '{:.1f}')} | {three([x['all_back_s'] for x in these], '{:.1f}')} | {three([x['receiver_cpu_until_back_s'] for x in these], '{:.1f}')} | {three([x['receiver_peak_kib'] / 1024 for x in these])} | {sum(x['fed'] for x in these):,} | {sum(x['missing'] for x in these)} | {sum(x['twice'] for x in these)} |")
print("relay RSS, MiB:", three([x["relay_rss_kib"][1] / 1024 for x in storm], "{:.1f}") if storm else "-", "load", [x["load"] for x in storm])
