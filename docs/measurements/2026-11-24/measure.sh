#!/bin/bash
# Every figure of tuning.md that is not from `compare`, one run after the other.
# From a folder with audit-relay and audit-loadgen in it, as root, with nothing else running and no auditd.
o=out; L=./audit-loadgen; S="--root ${SID:-/var/cache/audit-relay-test/sid}"; mkdir -p $o
k() { n=$1; shift; timeout 90 $L kernel $S --backlog 65536 --allow-loss --json $o/$n.json "$@" > $o/$n.txt 2>&1; }
for w in no yes; do
 for spec in user:100 user:1000 user:10000 user:30000 exec:100 exec:1000 open:1000 open:10000; do
  l=${spec%:*}; r=${spec#*:}; k kernel-$l-$r-logs-$w --load $l --rate $r --duration 5 --write-logs $w
 done
done
k kernel-user-10000-raw --rate 10000 --duration 5 --write-logs no --log-format raw
for g in 0ms 1ms 20ms; do for r in 1000 10000; do k kernel-user-$r-gather-$g --rate $r --duration 4 --write-logs no -- $PWD/audit-relay --config none --to {to} --hostname loadgen --gather $g; done; done
for r in 10000 30000; do k kernel-user-$r-audisp --rate $r --duration 4 --write-logs no --to unix -- /sbin/audisp-syslog LOG_LOCAL6; done
for q in 400 2000 10000; do k kernel-user-40000-q$q --rate 40000 --duration 4 --write-logs yes --q-depth $q; done
for i in 1 2 3; do for a in run floor; do $L $a --rate 20000 --duration 5 --json $o/$a-20000-$i.json > $o/$a-20000-$i.txt 2>&1; done
 $L run --rate 20000 --duration 5 --json $o/gather0-20000-$i.json -- ./audit-relay --config none --to {to} --hostname loadgen --gather 0ms > $o/gather0-20000-$i.txt 2>&1; done
$L run --rate 100000 --duration 60 --json $o/run-100000.json --html $o/run-100000.html > $o/run-100000.txt 2>&1
$L floor --rate 100000 --duration 60 --json $o/floor-100000.json > $o/floor-100000.txt 2>&1
for i in 1 2 3; do $L send --size 200 --count 6000000 --json $o/send-tcp-$i.json > $o/send-tcp-$i.txt 2>&1; 
 $L send --to self:udp --size 200 --count 1000000 --json $o/send-udp-$i.json > $o/send-udp-$i.txt 2>&1
 $L send --to self:udp --size 200 --count 1000000 --bare --json $o/bare-udp-$i.json > $o/bare-udp-$i.txt 2>&1; done
$L run --rate 20000 --duration 5 --sink-stall 2s:1s --json $o/stall.json --html $o/stall.html > $o/stall.txt 2>&1
for q in 1MiB 64MiB; do $L run --rate 50000 --duration 6 --sink-stall 2s:2s --sink-buffer 262144 --allow-loss --json $o/queue-$q.json -- ./audit-relay --config none --to {to} --hostname loadgen --queue-size $q > $o/queue-$q.txt 2>&1; done
old=$(cat /proc/sys/net/unix/max_dgram_qlen)
for q in 10 512; do echo $q > /proc/sys/net/unix/max_dgram_qlen; $L run --to unix --feed pipe --count 1000000 --runs 3 --json $o/qlen-$q.json > $o/qlen-$q.txt 2>&1; done
echo $old > /proc/sys/net/unix/max_dgram_qlen
for t in 1 2; do $L run --feed pipe --count 2000000 --runs 3 --json $o/threads-$t.json -- ./audit-relay --config none --to {to} --hostname loadgen --threads $t > $o/threads-$t.txt 2>&1
 $L run --count 1000000 --runs 3 --json $o/socket-threads-$t.json -- ./audit-relay --config none --to {to} --hostname loadgen --threads $t --on-full block > $o/socket-threads-$t.txt 2>&1; done
for p in off unacked 8MiB; do $L run --feed pipe --count 2000000 --runs 3 --json $o/replay-$p.json -- ./audit-relay --config none --to {to} --hostname loadgen --replay $p > $o/replay-$p.txt 2>&1; done
for t in relp relps; do $L run --to $t --feed pipe --count 1000000 --runs 3 --json $o/$t.json > $o/$t.txt 2>&1; done
