# rsyslogd follows the file that auditd writes. `cat` stands for auditd's writing; what it costs is in the figure,
# and is shown alone as `file`.
: >"{dir}/audit.log"
background rsyslogd -n -f "{dir}/rsyslog.conf" -i "{dir}/rsyslogd.pid"
rsyslogd=$!
appears "{dir}/rsyslogd.pid" $rsyslogd
cat >>"{dir}/audit.log"
idle $rsyslogd
stop $rsyslogd
