# util-linux logger to a datagram socket: one message per line of stdin, in the form /dev/log has.
exec logger --socket "{dir}/log" --socket-errors=on --size 65000 --tag auditd --priority local6.info
