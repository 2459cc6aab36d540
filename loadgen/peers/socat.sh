# A byte pump made by others.
exec socat -u -b 262144 STDIN TCP:127.0.0.1:{port},nodelay
