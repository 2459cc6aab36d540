# For peers that go on working when their input has ended.
export PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin

# A background process that is killed with this shell, whatever ends it. Its id is then in $!.
background() {
    setpriv --pdeathsig KILL "$@" &
}

# Waits, at most ten seconds, until there is something at path $1 or process $2 is gone.
appears() {
    tries=0
    while [ ! -e "$1" ] && [ -e "/proc/$2" ] && [ $tries -lt 1000 ]; do
        sleep 0.01
        tries=$((tries + 1))
    done
}

# Waits until process $1 has used no CPU (to the kernel's tick of 10 ms) in half a second: it has read what there was
# to read. Only then may it be told to stop; a daemon told earlier leaves what is still in its socket or file.
# The shell reads by itself: five or ten times `sleep` is all that this adds to the peer's bill.
idle() {
    still=0 before=
    while [ $still -lt 5 ]; do
        sleep 0.1
        read -r _ _ _ _ _ _ _ _ _ _ _ _ _ user system _ <"/proc/$1/stat" || return 0
        if [ "$user.$system" = "$before" ]; then still=$((still + 1)); else still=0; fi
        before=$user.$system
    done
}

# Ends process $1 in order and passes on how that went.
stop() {
    kill -TERM "$1"
    wait "$1"
}
