#!/usr/bin/env bash
# A week's worth of records through the relay in one go, over TCP and then over TLS: resident memory and descriptors
# stay as they were after the first million, and every record arrives once, in order, whole.
#
#   cargo build --release --locked -p audit-relay -p audit-loadgen
#   tests/soak.sh                     # 100 million records over each transport
#   tests/soak.sh 5000000 tls relps   # so many over each of these (tcp tls relp relps unix-stream)
#
# The queue is small (SOAK_QUEUE=size for another one): at full speed it fills and empties all the time, so with the
# default of 64 MiB memory swings by as much and says nothing, while here 1 MiB more is more than it can hold.
#
# Prints memory (VmRSS), descriptors and records read once a minute (SOAK_EVERY=seconds for another pace). Fails by
# itself if, at any look after the first million, memory is more than 1 MiB above what it was then or there are more
# descriptors; or if audit-loadgen misses a record. Several minutes a transport.
set -euo pipefail

count=${1:-100000000}
shift || true
[ "$#" -gt 0 ] || set -- tcp tls
every=${SOAK_EVERY:-60}
bound=1024 # KiB
here=$(cd "$(dirname "$0")/.." && pwd)
programs=${CARGO_TARGET_DIR:-$here/target}/release
dir=$(mktemp -d)
load=
trap '[ -z "$load" ] || kill "$load" 2>/dev/null || true; rm -rf "$dir"' EXIT
# The relay gives up root and must still find its certificate.
chmod 755 "$dir"

field() { sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$relay/status" 2>/dev/null || true; }
look() {
  rss=$(field VmRSS)
  descriptors=$( (find "/proc/$relay/fd" -mindepth 1 2>/dev/null || true) | wc -l)
  kill -USR1 "$relay" 2>/dev/null || true
  read=$(sed -n 's/^  "read": \([0-9]*\),$/\1/p' "$dir/report" 2>/dev/null | tail -n 1 || true)
}
line() { printf '%-12s %6s s %10s KiB %4s descriptors %12s records read\n' "$to" "$((SECONDS - start))" "$1" "$2" "$3"; }

uname -srm
"$programs/audit-relay" --version
for to in "$@"; do
  ca=()
  case $to in tls | relps) ca=(--tls-ca '{ca}') ;; esac
  rm -f "$dir/report"
  start=$SECONDS first='' last='' said=0 failed=''
  "$programs/audit-loadgen" --to "$to" --feed pipe --count "$count" -- \
    "$programs/audit-relay" --config none --to '{to}' --on-full block --queue-size "${SOAK_QUEUE:-512KiB}" --hostname soak --log none \
    --report "$dir/report" "${ca[@]}" >"$dir/account" 2>&1 &
  load=$!
  relay=
  while [ -z "$relay" ] && kill -0 "$load" 2>/dev/null; do
    relay=$(pgrep -P "$load" -x audit-relay || true)
    sleep 0.1
  done
  while kill -0 "$load" 2>/dev/null; do
    look
    # Ended between two looks, it has no memory.
    if [ -n "$rss" ] && [ "${read:-0}" -ge 1000000 ]; then
      last="$rss $descriptors $read"
      if [ -z "$first" ]; then
        first=$rss first_descriptors=$descriptors
        line $last
      elif [ "$((SECONDS - start))" -ge "$((said + every))" ]; then
        said=$((SECONDS - start))
        line $last
      fi
      if [ "$rss" -gt "$((first + bound))" ] || [ "$descriptors" -gt "$first_descriptors" ]; then
        failed="after the first million $first KiB and $first_descriptors descriptors, now $rss KiB and $descriptors"
      fi
    fi
    sleep 0.5
  done
  code=0
  wait "$load" || code=$?
  load=
  [ -z "$last" ] || line $last
  sed "s|$programs/||g; s|$dir|DIR|g; s|/[^ ]*/ca.pem|CA|g" "$dir/account"
  if [ -n "$failed" ] || [ -z "$first" ] || [ "$code" != 0 ]; then
    echo "soak: $to FAILED: ${failed:-audit-loadgen ended with $code}" >&2
    exit 1
  fi
  echo "soak: $to: memory never more than $bound KiB above the $first KiB after the first million, no descriptor more than $first_descriptors, all records there"
done
