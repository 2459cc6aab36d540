# syslog-ng follows the file that auditd writes. `cat` stands for auditd's writing; what it costs is in the figure,
# and is shown alone as `file`.
: >"{dir}/audit.log"
background {program} --foreground --no-caps --cfgfile="{dir}/syslog-ng.conf" \
    --persist-file="{dir}/syslog-ng.persist" --control="{dir}/syslog-ng.ctl" --pidfile="{dir}/syslog-ng.pid"
syslog_ng=$!
appears "{dir}/syslog-ng.pid" $syslog_ng
cat >>"{dir}/audit.log"
idle $syslog_ng
stop $syslog_ng
