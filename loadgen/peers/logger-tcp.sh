# util-linux logger: one message per line of stdin, RFC 5424, octet counting, nothing cut below 64 KiB.
exec logger --server 127.0.0.1 --port {port} --tcp --octet-count --rfc5424 --size 65536 --tag auditd \
    --priority local6.info
