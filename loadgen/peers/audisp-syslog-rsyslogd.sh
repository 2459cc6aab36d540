# What most installations have today: auditd's plugin writes to /dev/log, the local rsyslogd sends it on.
background rsyslogd -n -f "{dir}/rsyslog.conf" -i "{dir}/rsyslogd.pid"
rsyslogd=$!
appears "{dir}/log" $rsyslogd
audisp-syslog LOG_LOCAL6 LOG_INFO
idle $rsyslogd
stop $rsyslogd
