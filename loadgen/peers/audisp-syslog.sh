# auditd's own syslog plugin, to whatever listens on /dev/log. Its only settings are these two words.
exec audisp-syslog LOG_LOCAL6 LOG_INFO
