# As a plugin of auditd; ends at the end of its stdin.
exec {program} --foreground --no-caps --cfgfile="{dir}/syslog-ng.conf" --persist-file="{dir}/syslog-ng.persist" \
    --control="{dir}/syslog-ng.ctl" --pidfile="{dir}/syslog-ng.pid"
