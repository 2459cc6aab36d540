# Takes a peer to where it runs. Started with an empty environment, as the program under test, by `audit-loadgen run`:
#
#     sh enter.sh ROOT DIR NAMESPACE PORT CA
#
# ROOT is the system to run in (/ or a chroot), DIR the peer's own folder, NAMESPACE `yes` if the peer must have a
# /dev/log of its own or another root. Fills {dir}, {port} and {ca} into DIR/*.in and becomes DIR/peer.sh.
set -eu
PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
root=$1 dir=$2 namespace=$3 port=$4 ca=$5

# The certificate must be where a chroot can see it.
[ -z "$ca" ] || cp "$ca" "$dir/ca.pem"
# The peer's folder is /tmp of a chroot.
inner=$dir
[ "$root" = / ] || inner=/tmp
for file in "$dir"/*.in; do
    sed -e "s|{dir}|$inner|g" -e "s|{port}|$port|g" -e "s|{ca}|$inner/ca.pem|g" "$file" >"${file%.in}"
done

[ "$namespace" = yes ] || exec /bin/sh "$dir/peer.sh"

# What is mounted is seen by this process and its children only, and goes with the last of them: neither the
# machine's /dev/log nor its syslog daemon is touched. Not root: a user namespace lends what mounting needs.
map=
[ "$(id -u)" = 0 ] || map=--map-root-user
exec unshare --mount $map /bin/sh -eu -c '
    root=$1 dir=$2 inner=$3
    mkdir -p "$dir/dev"
    mount -t tmpfs -o mode=755 tmpfs "$dir/dev"
    for device in null zero random urandom; do
        : >"$dir/dev/$device"
        mount --bind "/dev/$device" "$dir/dev/$device"
    done
    ln -s "$inner/log" "$dir/dev/log"
    if [ "$root" != / ]; then
        mount --rbind /proc "$root/proc"
        mount --rbind "$dir/dev" "$root/dev"
        mount --rbind "$dir" "$root/tmp"
        exec chroot "$root" /bin/sh /tmp/peer.sh
    fi
    mount --rbind "$dir/dev" /dev
    exec /bin/sh "$dir/peer.sh"' sh "$root" "$dir" "$inner"
