#!/usr/bin/env bash
# What the audit rules cost: measure.sh RELAY DEBS, as root on Debian 12, auditd not running. RELAY is the relay's program, DEBS a folder
# with packages that dpkg can install (apt-get install --download-only). Everything runs in an overlay of this machine's root.
set -euo pipefail
relay=$(realpath "$1") debs=$(realpath "$2") here=$(cd "$(dirname "$0")" && pwd)
repository=$here/../../..
if [ "${INSIDE:-}" != yes ]; then exec env INSIDE=yes unshare --mount "$0" "$@"; fi
# The kernel's audit system is lent to one at a time, as in the tests.
exec 8>>/run/audit-relay-live.lock

work=$(mktemp -d) && mount -t tmpfs tmpfs "$work" && mkdir "$work/u" "$work/w" "$work/m"
mount -t overlay overlay -o "xino=on,lowerdir=/,upperdir=$work/u,workdir=$work/w" "$work/m"
m=$work/m
mount --rbind /proc "$m/proc" && mount --rbind /dev "$m/dev" && mount -t tmpfs tmpfs "$m/run" && mkdir "$m/run/debs"
cp "$debs"/*.deb "$m/run/debs/" && cp "$relay" "$m/usr/sbin/audit-relay" && mkdir -p "$m/var/log/audit"
rm -f "$m"/etc/audit/plugins.d/* "$m"/etc/audit/rules.d/*
install -m 0640 "$repository/packaging/plugins.d/audit-relay.conf" "$m/etc/audit/plugins.d/"
install -m 0640 "$repository/packaging/auditd/auditd-relay-and-disk.conf" "$m/etc/audit/auditd.conf"
sed -i 's/^max_log_file = .*/max_log_file = 4000/' "$m/etc/audit/auditd.conf"
printf 'global(maxMessageSize="64k")\nmain_queue(queue.type="LinkedList" queue.size="1000000")\nmodule(load="imtcp")\ninput(type="imtcp" address="127.0.0.1" port="20601")\naction(type="omfile" file="/var/log/received")\n' >"$m/etc/rsyslog-measure.conf"
printf 'to = ["tcp://127.0.0.1:20601"]\nreport = "/run/report.json"\n' >"$m/etc/audit-relay.toml"
"$repository/packaging/install-audit-rules" --root "$m" 2>/dev/null

# A C tree such as a build has it, and a program that makes calls that no rule is for.
mkdir "$m/opt/tree"
for n in $(seq 200); do
  printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <errno.h>\nint f%d(int n) { char *p = malloc(n); if (!p) return errno; memset(p, n, n); printf("%%d", n); free(p); return n; }\n' "$n" >"$m/opt/tree/f$n.c"
done
printf 'O := $(patsubst %%.c,%%.o,$(wildcard *.c))\nall: $O\n\tar rcs lib.a $O\n%%.o: %%.c\n\tgcc -O1 -c -o $@ $<\n' >"$m/opt/tree/Makefile"
chown -R 5001 "$m/opt/tree"
cat >"$work/calls.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
int main(void) {
  double a = now();
  for (int i = 0; i < 2000000; i++) syscall(SYS_getppid);
  double b = now();
  for (int i = 0; i < 300000; i++) close(open("/usr/share/dict", O_RDONLY | O_DIRECTORY));
  printf("getppid %.0f ns, open and close %.0f ns\n", (b - a) / 2e6, (now() - b) / 3e5);
}
C
gcc -O1 -o "$m/opt/calls" "$work/calls.c"

cpu() { [ -n "$1" ] && awk '{ print ($14 + $15) * 10 }' "/proc/$1/stat" || echo 0; }

# as LOGIN USER COMMAND: with the login, as the user; prints wall and CPU in ms.
as() {
  chroot "$m" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C bash -c '
    echo '"$1"' >/proc/self/loginuid
    TIMEFORMAT="%R %U %S"; time setpriv --reuid '"$2"' --clear-groups bash -c "$0" >/dev/null 2>&1' "$3" 2>&1 | tail -n 1
}

run() { # NAME RULES LOGIN USER COMMAND
  local name=$1 rules=$2
  flock 8
  rm -f "$m"/var/log/audit/* "$m/var/log/received"
  chroot "$m" rsyslogd -n -f /etc/rsyslog-measure.conf -i /run/rsyslogd-measure.pid 8>&- & local rsyslogd=$!
  sleep 0.5
  local auditd='' plugin='' line
  if [ "$rules" != none ]; then
    chroot "$m" auditd -n >/dev/null 2>&1 8>&- & auditd=$!
    sleep 0.7
    plugin=$(cat /proc/$auditd/task/*/children | tr ' ' '\n' | grep . | head -n 1)
    chroot "$m" auditctl -b 65536 >/dev/null
    case $rules in
      on) chroot "$m" augenrules --load >/dev/null ;;
      tuned)
        sed -i '/^# -a never,exit .*dpkg/s/^# //' "$m/etc/audit/rules.d/20-ar-exclusions.rules"
        chroot "$m" augenrules --load >/dev/null
        sed -i '/^-a never,exit .*dpkg/s/^/# /' "$m/etc/audit/rules.d/20-ar-exclusions.rules" ;;
      off) chroot "$m" auditctl -D >/dev/null; chroot "$m" auditctl -e 1 >/dev/null ;;
    esac
  fi
  sleep 0.3
  local before_auditd before_relay start
  before_auditd=$(cpu "$auditd") before_relay=$(cpu "$plugin")
  start=$(date +%s.%N)
  line=$(as "$3" "$4" "$5")
  sleep 1
  local end_auditd end_relay lost
  end_auditd=$(cpu "$auditd") end_relay=$(cpu "$plugin") lost=$(auditctl -s | awk '/^lost/ { print $2 }')
  if [ -n "$auditd" ]; then
    auditctl -D >/dev/null; auditctl -e 0 >/dev/null
    kill "$auditd"; wait "$auditd" || true
  fi
  auditctl -b 64 >/dev/null
  flock --unlock 8
  sleep 0.5; kill "$rsyslogd"; wait "$rsyslogd" || true
  # Only what has the person's login, and the records of its events.
  local log=$m/var/log/audit/audit.log
  [ -e "$log" ] || : >"$log"
  awk -v name="$name" -v rules="$rules" -v line="$line" -v auditd=$((end_auditd - before_auditd)) -v relay=$((end_relay - before_relay)) -v lost="$lost" '
    { split($2, id, /[:)]/); if (match($0, /msg=audit\([0-9.]+:[0-9]+/)) serial = substr($0, RSTART + 10, RLENGTH - 10); count[serial]++ }
    / auid=5001 / && /^type=SYSCALL/ { if (match($0, /key="[^"]*"/)) { key = substr($0, RSTART + 5, RLENGTH - 6); keyed[serial] = key } }
    END {
      for (s in keyed) { events++; records += count[s]; by[keyed[s]]++ }
      split(line, t, " ")
      printf "%-22s %-6s wall %6.2f s, CPU %6.2f s (user %.2f, system %.2f); events %d (%.0f/s), records %d (%.0f/s); auditd %d ms, relay %d ms CPU; lost %d;", name, rules, t[1], t[2] + t[3], t[2], t[3], events, events / t[1], records, records / t[1], auditd, relay, lost
      for (k in by) printf " %s=%d", k, by[k]
      print ""
    }' "$log"
  if [ -e "$m/var/log/received" ]; then
    local logged received
    logged=$(grep -vc '^type=\(EOE\|DAEMON_CONFIG\)' "$log" || true) received=$(grep -c ' msg=audit(' "$m/var/log/received" || true)
    echo "  logged $logged without EOE, received $received"
  fi
}

echo "# $(git -C "$repository" rev-parse --short HEAD), $(uname -r), $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2-), $(nproc) CPUs, auditd $(dpkg-query -W -f '${Version}' auditd), rsyslog $(dpkg-query -W -f '${Version}' rsyslog), load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "# packages: $(cd "$m/run/debs" && ls | tr '\n' ' ')"
chroot "$m" sh -c 'cat /etc/audit/rules.d/*.rules' | grep -c '^-[aA] ' | sed 's/^/# rules: /'
for n in $(seq "${REPEAT:-3}"); do
  for rules in off on tuned; do
    run "dpkg as root" $rules 5001 0 'dpkg --force-depends -i /run/debs/*.deb; dpkg -P $(for d in /run/debs/*.deb; do dpkg-deb -f $d Package; done)'
  done
  for rules in off on; do
    run "make -j2 as a user" $rules 5001 5001 'make -s -j2 -C /opt/tree; make -s -C /opt/tree -B -n; rm -f /opt/tree/*.o'
    run "make -j2 as root" $rules 5001 0 'make -s -j2 -C /opt/tree; rm -f /opt/tree/*.o /opt/tree/lib.a'
  done
done
for rules in none off on; do
  for n in 1 2 3; do run "calls, no match" $rules 5001 5001 '/opt/calls >/dev/shm/calls.measure' | cut -c1-60; cat /dev/shm/calls.measure; done
done
rm -f /dev/shm/calls.measure
