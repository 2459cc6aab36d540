# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_audit_relay_global_optspecs
    string join \n config= to= failover= balance= format= framing= facility= severity= hostname= app-name= structured-data= enterprise-number= input= eoe= on-full= queue-size= max-message-size= replay= connect-timeout= tcp-user-timeout= tcp-keepalive= relp-window= tls-verify= tls-ca= tls-pin= tls-name= tls-cert= tls-key= tls-crl= gather= confine= threads= drain-timeout= handover= user= report= status= status-group= metrics= metrics-file= metrics-interval= statistics-interval= log= h/help V/version
end

function __fish_audit_relay_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_audit_relay_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_audit_relay_using_subcommand
    set -l cmd (__fish_audit_relay_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c audit-relay -n "__fish_audit_relay_needs_command" -l config -d 'Read this TOML file; `none` reads no file [default: /etc/audit-relay.toml if it exists]' -r -F
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l to -d 'Send to this destination; may be given several times, each gets every record: unix:/dev/log, unix-stream:/PATH, udp://HOST[:514], tcp://HOST[:601], tls://HOST[:6514], relp://HOST[:2514], relps://HOST[:2514], stdout: [default: unix:/dev/log]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l failover -d 'Send to the first of these receivers that is well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l balance -d 'Spread over those of these receivers that are well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l format -d 'Message form: auto, rfc5424, rfc3164. auto is rfc3164 on local sockets, else rfc5424' -r -f -a "auto\t''
rfc5424\t''
rfc3164\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l framing -d 'Framing on streams: octet, lf [default: octet on tcp and tls, lf elsewhere]' -r -f -a "octet\t''
lf\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l facility -d 'Syslog facility [default: local6]' -r -f -a "kern\t''
user\t''
mail\t''
daemon\t''
auth\t''
syslog\t''
lpr\t''
news\t''
uucp\t''
cron\t''
authpriv\t''
ftp\t''
local0\t''
local1\t''
local2\t''
local3\t''
local4\t''
local5\t''
local6\t''
local7\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l severity -d 'Syslog severity of records [default: info]' -r -f -a "emerg\t''
alert\t''
crit\t''
err\t''
warning\t''
notice\t''
info\t''
debug\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l hostname -d 'HOSTNAME of messages [default: this host\'s fully qualified name]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l app-name -d 'APP-NAME of messages [default: auditd]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l structured-data -d 'Elements of structured data: meta, origin, time-quality, audit, or none [default: meta]' -r -f -a "meta\t''
origin\t''
time-quality\t''
audit\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l enterprise-number -d 'Your private enterprise number (IANA), for the element `audit`' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l input -d 'Form of the input: auto, text, binary, binary-exact, binary-fixed [default: auto]' -r -f -a "auto\t''
text\t''
binary\t''
binary-exact\t''
binary-fixed\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l eoe -d 'End-of-event records: drop (and count), keep [default: drop]' -r -f -a "drop\t''
keep\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l on-full -d 'When a destination\'s queue is full: auto, block, drop-newest, drop-oldest. auto blocks if the input is a file or a pipe and drops the newest if it is auditd\'s socket' -r -f -a "auto\t''
block\t''
drop-newest\t''
drop-oldest\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l queue-size -d 'Bytes that may wait for one destination [default: 64MiB; 8MiB where a file or a pipe can wait]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l max-message-size -d 'Cut longer messages, visibly [default: what the transport takes]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l replay -d 'What is sent again after a connection over TCP or TLS has ended: unacked, SIZE (that much acknowledged data too, for receivers that die with data unread), off [default: unacked]' -r -f -a "unacked\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l connect-timeout -d 'Limit for looking a name up, for connecting, for the TLS handshake, each [default: 10s]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tcp-user-timeout -d 'A peer that acknowledges or takes nothing for this long is dead [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tcp-keepalive -d 'Idle time after which a TCP peer is asked whether it is still there [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l relp-window -d 'Messages that may wait for RELP\'s answer [default: 128]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tls-verify -d 'What the receiver\'s certificate has to be: ca, pin, pin-and-ca, none. Without this: ca; or what --tls-pin and --tls-ca together ask for' -r -f -a "ca\t''
pin\t''
pin-and-ca\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tls-ca -d 'Trusted authorities, a PEM file or `system` [default: system]' -r -F
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tls-pin -d 'Fingerprint (sha256:...) that the receiver\'s certificate must have; several may be named' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tls-name -d 'Name in the receiver\'s certificate, where it is not the host in the URL' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tls-cert -d 'Our own certificate, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tls-key -d 'Its private key, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l tls-crl -d 'Revocation list of the authority, a PEM or DER file; several may be named' -r -F
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l gather -d 'How long records may gather before they are read, while they come in quick succession, up to 20ms; 0ms: each is read at once [default: 5ms]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l confine -d 'Give up files, ports and system calls that the configuration does not need: auto, require (or do not start), log (only log what is not foreseen), off [default: auto]' -r -f -a "auto\t''
require\t''
log\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l threads -d '1: one thread reads and sends; 2: one each; auto: two for a file, one for a socket as auditd\'s or a pipe [default: auto]' -r -f -a "auto\t''
1\t''
2\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l drain-timeout -d 'Time to deliver the rest after the input has ended [default: 2s]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l handover -d 'Folder on tmpfs where undelivered records are left for the next instance; auto is /run/audit-relay under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l user -d 'Account to run as when started as root [default: audit-relay if it exists, else nobody]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l report -d 'Write the accounting here as JSON, at the end and on SIGUSR1' -r -F
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l status -d 'Socket for `audit-relay status`; auto is /run/audit-relay/status.sock under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l status-group -d 'Group that may connect to that socket [default: root and the relay\'s account only]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l metrics -d 'Serve metrics over HTTP at this address and port of the loopback interface, such as 127.0.0.1:9101' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l metrics-file -d 'Write metrics to this file (*.prom), for node_exporter\'s textfile collector' -r -F
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l metrics-interval -d 'How often the file is written [default: 15s]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l statistics-interval -d 'Send a message STATS with the sums to each destination this often; off [default: off]' -r
complete -c audit-relay -n "__fish_audit_relay_needs_command" -l log -d 'Where diagnostics go: auto, stderr, syslog, none. auto adds syslog under auditd [default: auto]' -r -f -a "auto\t''
stderr\t''
syslog\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_needs_command" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -s V -l version -d 'Print version'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -a "check" -d 'Validate the configuration and print the one in effect'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -a "status" -d 'Show what the running relay does: counters, queues, connections. Ends with 0 if all is well, 1 if something needs attention (lines that begin with `!`), 69 if no relay runs'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -a "install" -d 'Have auditd start the relay, and watch the first records go through it; put everything back if that fails'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -a "uninstall" -d 'Have auditd start the relay no longer, and remove what install has written'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -a "cert" -d 'Make a certificate and its key, or show what one says'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -a "doctor" -d 'Find what loses, doubles or spoils records on this machine, and say what to do. Changes nothing'
complete -c audit-relay -n "__fish_audit_relay_needs_command" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l config -d 'Read this TOML file; `none` reads no file [default: /etc/audit-relay.toml if it exists]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l to -d 'Send to this destination; may be given several times, each gets every record: unix:/dev/log, unix-stream:/PATH, udp://HOST[:514], tcp://HOST[:601], tls://HOST[:6514], relp://HOST[:2514], relps://HOST[:2514], stdout: [default: unix:/dev/log]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l failover -d 'Send to the first of these receivers that is well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l balance -d 'Spread over those of these receivers that are well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l format -d 'Message form: auto, rfc5424, rfc3164. auto is rfc3164 on local sockets, else rfc5424' -r -f -a "auto\t''
rfc5424\t''
rfc3164\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l framing -d 'Framing on streams: octet, lf [default: octet on tcp and tls, lf elsewhere]' -r -f -a "octet\t''
lf\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l facility -d 'Syslog facility [default: local6]' -r -f -a "kern\t''
user\t''
mail\t''
daemon\t''
auth\t''
syslog\t''
lpr\t''
news\t''
uucp\t''
cron\t''
authpriv\t''
ftp\t''
local0\t''
local1\t''
local2\t''
local3\t''
local4\t''
local5\t''
local6\t''
local7\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l severity -d 'Syslog severity of records [default: info]' -r -f -a "emerg\t''
alert\t''
crit\t''
err\t''
warning\t''
notice\t''
info\t''
debug\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l hostname -d 'HOSTNAME of messages [default: this host\'s fully qualified name]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l app-name -d 'APP-NAME of messages [default: auditd]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l structured-data -d 'Elements of structured data: meta, origin, time-quality, audit, or none [default: meta]' -r -f -a "meta\t''
origin\t''
time-quality\t''
audit\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l enterprise-number -d 'Your private enterprise number (IANA), for the element `audit`' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l input -d 'Form of the input: auto, text, binary, binary-exact, binary-fixed [default: auto]' -r -f -a "auto\t''
text\t''
binary\t''
binary-exact\t''
binary-fixed\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l eoe -d 'End-of-event records: drop (and count), keep [default: drop]' -r -f -a "drop\t''
keep\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l on-full -d 'When a destination\'s queue is full: auto, block, drop-newest, drop-oldest. auto blocks if the input is a file or a pipe and drops the newest if it is auditd\'s socket' -r -f -a "auto\t''
block\t''
drop-newest\t''
drop-oldest\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l queue-size -d 'Bytes that may wait for one destination [default: 64MiB; 8MiB where a file or a pipe can wait]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l max-message-size -d 'Cut longer messages, visibly [default: what the transport takes]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l replay -d 'What is sent again after a connection over TCP or TLS has ended: unacked, SIZE (that much acknowledged data too, for receivers that die with data unread), off [default: unacked]' -r -f -a "unacked\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l connect-timeout -d 'Limit for looking a name up, for connecting, for the TLS handshake, each [default: 10s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tcp-user-timeout -d 'A peer that acknowledges or takes nothing for this long is dead [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tcp-keepalive -d 'Idle time after which a TCP peer is asked whether it is still there [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l relp-window -d 'Messages that may wait for RELP\'s answer [default: 128]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tls-verify -d 'What the receiver\'s certificate has to be: ca, pin, pin-and-ca, none. Without this: ca; or what --tls-pin and --tls-ca together ask for' -r -f -a "ca\t''
pin\t''
pin-and-ca\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tls-ca -d 'Trusted authorities, a PEM file or `system` [default: system]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tls-pin -d 'Fingerprint (sha256:...) that the receiver\'s certificate must have; several may be named' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tls-name -d 'Name in the receiver\'s certificate, where it is not the host in the URL' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tls-cert -d 'Our own certificate, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tls-key -d 'Its private key, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l tls-crl -d 'Revocation list of the authority, a PEM or DER file; several may be named' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l gather -d 'How long records may gather before they are read, while they come in quick succession, up to 20ms; 0ms: each is read at once [default: 5ms]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l confine -d 'Give up files, ports and system calls that the configuration does not need: auto, require (or do not start), log (only log what is not foreseen), off [default: auto]' -r -f -a "auto\t''
require\t''
log\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l threads -d '1: one thread reads and sends; 2: one each; auto: two for a file, one for a socket as auditd\'s or a pipe [default: auto]' -r -f -a "auto\t''
1\t''
2\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l drain-timeout -d 'Time to deliver the rest after the input has ended [default: 2s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l handover -d 'Folder on tmpfs where undelivered records are left for the next instance; auto is /run/audit-relay under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l user -d 'Account to run as when started as root [default: audit-relay if it exists, else nobody]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l report -d 'Write the accounting here as JSON, at the end and on SIGUSR1' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l status -d 'Socket for `audit-relay status`; auto is /run/audit-relay/status.sock under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l status-group -d 'Group that may connect to that socket [default: root and the relay\'s account only]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l metrics -d 'Serve metrics over HTTP at this address and port of the loopback interface, such as 127.0.0.1:9101' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l metrics-file -d 'Write metrics to this file (*.prom), for node_exporter\'s textfile collector' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l metrics-interval -d 'How often the file is written [default: 15s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l statistics-interval -d 'Send a message STATS with the sums to each destination this often; off [default: off]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l log -d 'Where diagnostics go: auto, stderr, syslog, none. auto adds syslog under auditd [default: auto]' -r -f -a "auto\t''
stderr\t''
syslog\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -l confinement -d 'Also try what a relay that was taken over would try, and say what the kernel refuses'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand check" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand status" -l socket -d 'The relay\'s socket [default: as `status` in the configuration says, else /run/audit-relay/status.sock]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand status" -l config -d 'Read the socket\'s path from this file [default: /etc/audit-relay.toml]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand status" -l watch -d 'Show it again every SECONDS (1 to 3600) until Ctrl-C or q, in place on a terminal, else a line each [default: 1]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand status" -l json -d 'Print the report as JSON'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand status" -l prometheus -d 'Print metrics in Prometheus\'s text form'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand status" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l wait -d 'Seconds until records have to have been sent to every destination, 2 to 600' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l root -d 'Change the system in this folder, whose auditd is not running' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l audit-dir -d 'auditd\'s configuration folder [default: what the running auditd was started with, else /etc/audit]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l config -d 'Read this TOML file; `none` reads no file [default: /etc/audit-relay.toml if it exists]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l to -d 'Send to this destination; may be given several times, each gets every record: unix:/dev/log, unix-stream:/PATH, udp://HOST[:514], tcp://HOST[:601], tls://HOST[:6514], relp://HOST[:2514], relps://HOST[:2514], stdout: [default: unix:/dev/log]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l failover -d 'Send to the first of these receivers that is well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l balance -d 'Spread over those of these receivers that are well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l format -d 'Message form: auto, rfc5424, rfc3164. auto is rfc3164 on local sockets, else rfc5424' -r -f -a "auto\t''
rfc5424\t''
rfc3164\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l framing -d 'Framing on streams: octet, lf [default: octet on tcp and tls, lf elsewhere]' -r -f -a "octet\t''
lf\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l facility -d 'Syslog facility [default: local6]' -r -f -a "kern\t''
user\t''
mail\t''
daemon\t''
auth\t''
syslog\t''
lpr\t''
news\t''
uucp\t''
cron\t''
authpriv\t''
ftp\t''
local0\t''
local1\t''
local2\t''
local3\t''
local4\t''
local5\t''
local6\t''
local7\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l severity -d 'Syslog severity of records [default: info]' -r -f -a "emerg\t''
alert\t''
crit\t''
err\t''
warning\t''
notice\t''
info\t''
debug\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l hostname -d 'HOSTNAME of messages [default: this host\'s fully qualified name]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l app-name -d 'APP-NAME of messages [default: auditd]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l structured-data -d 'Elements of structured data: meta, origin, time-quality, audit, or none [default: meta]' -r -f -a "meta\t''
origin\t''
time-quality\t''
audit\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l enterprise-number -d 'Your private enterprise number (IANA), for the element `audit`' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l input -d 'Form of the input: auto, text, binary, binary-exact, binary-fixed [default: auto]' -r -f -a "auto\t''
text\t''
binary\t''
binary-exact\t''
binary-fixed\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l eoe -d 'End-of-event records: drop (and count), keep [default: drop]' -r -f -a "drop\t''
keep\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l on-full -d 'When a destination\'s queue is full: auto, block, drop-newest, drop-oldest. auto blocks if the input is a file or a pipe and drops the newest if it is auditd\'s socket' -r -f -a "auto\t''
block\t''
drop-newest\t''
drop-oldest\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l queue-size -d 'Bytes that may wait for one destination [default: 64MiB; 8MiB where a file or a pipe can wait]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l max-message-size -d 'Cut longer messages, visibly [default: what the transport takes]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l replay -d 'What is sent again after a connection over TCP or TLS has ended: unacked, SIZE (that much acknowledged data too, for receivers that die with data unread), off [default: unacked]' -r -f -a "unacked\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l connect-timeout -d 'Limit for looking a name up, for connecting, for the TLS handshake, each [default: 10s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tcp-user-timeout -d 'A peer that acknowledges or takes nothing for this long is dead [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tcp-keepalive -d 'Idle time after which a TCP peer is asked whether it is still there [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l relp-window -d 'Messages that may wait for RELP\'s answer [default: 128]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tls-verify -d 'What the receiver\'s certificate has to be: ca, pin, pin-and-ca, none. Without this: ca; or what --tls-pin and --tls-ca together ask for' -r -f -a "ca\t''
pin\t''
pin-and-ca\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tls-ca -d 'Trusted authorities, a PEM file or `system` [default: system]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tls-pin -d 'Fingerprint (sha256:...) that the receiver\'s certificate must have; several may be named' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tls-name -d 'Name in the receiver\'s certificate, where it is not the host in the URL' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tls-cert -d 'Our own certificate, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tls-key -d 'Its private key, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l tls-crl -d 'Revocation list of the authority, a PEM or DER file; several may be named' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l gather -d 'How long records may gather before they are read, while they come in quick succession, up to 20ms; 0ms: each is read at once [default: 5ms]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l confine -d 'Give up files, ports and system calls that the configuration does not need: auto, require (or do not start), log (only log what is not foreseen), off [default: auto]' -r -f -a "auto\t''
require\t''
log\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l threads -d '1: one thread reads and sends; 2: one each; auto: two for a file, one for a socket as auditd\'s or a pipe [default: auto]' -r -f -a "auto\t''
1\t''
2\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l drain-timeout -d 'Time to deliver the rest after the input has ended [default: 2s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l handover -d 'Folder on tmpfs where undelivered records are left for the next instance; auto is /run/audit-relay under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l user -d 'Account to run as when started as root [default: audit-relay if it exists, else nobody]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l report -d 'Write the accounting here as JSON, at the end and on SIGUSR1' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l status -d 'Socket for `audit-relay status`; auto is /run/audit-relay/status.sock under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l status-group -d 'Group that may connect to that socket [default: root and the relay\'s account only]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l metrics -d 'Serve metrics over HTTP at this address and port of the loopback interface, such as 127.0.0.1:9101' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l metrics-file -d 'Write metrics to this file (*.prom), for node_exporter\'s textfile collector' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l metrics-interval -d 'How often the file is written [default: 15s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l statistics-interval -d 'Send a message STATS with the sums to each destination this often; off [default: off]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l log -d 'Where diagnostics go: auto, stderr, syslog, none. auto adds syslog under auditd [default: auto]' -r -f -a "auto\t''
stderr\t''
syslog\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l replace-syslog -d 'Stand in for audisp-syslog: change its plugins.d/syslog.conf, which compliance checks look for'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l upgraded -d 'After an upgrade: have auditd start the new program if it starts the relay at all, and change no file'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l dry-run -d 'Show what would change, and change nothing'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -l files-only -d 'Change files, and neither look for a running auditd nor reload it'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand install" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand uninstall" -l root -d 'Change the system in this folder, whose auditd is not running' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand uninstall" -l audit-dir -d 'auditd\'s configuration folder [default: what the running auditd was started with, else /etc/audit]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand uninstall" -l keep-config -d 'Leave the relay\'s configuration'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand uninstall" -l dry-run -d 'Show what would change, and change nothing'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand uninstall" -l files-only -d 'Change files, and neither look for a running auditd nor reload it'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand uninstall" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and not __fish_seen_subcommand_from new show help" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and not __fish_seen_subcommand_from new show help" -f -a "new" -d 'Make a private key and a self-signed certificate for both ends of TLS, and print its fingerprints'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and not __fish_seen_subcommand_from new show help" -f -a "show" -d 'Print the fingerprints, names and dates of the certificates in a PEM file'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and not __fish_seen_subcommand_from new show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and __fish_seen_subcommand_from new" -l name -d 'Host name or address that the certificate is for; may be given several times [default: this host\'s fully qualified name]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and __fish_seen_subcommand_from new" -l days -d 'Days until it ends, 1 to 7300' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and __fish_seen_subcommand_from help" -f -a "new" -d 'Make a private key and a self-signed certificate for both ends of TLS, and print its fingerprints'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print the fingerprints, names and dates of the certificates in a PEM file'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand cert; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l only -d 'Look for these traps only' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l look-in -d 'Look for the test message in this file too; may be given several times' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l root -d 'Look at the files below this folder (a chroot, an image) instead of at this machine' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l within -d 'Seconds that it may take, 1 to 600; --send takes up to 10 more for each destination' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l config -d 'Read this TOML file; `none` reads no file [default: /etc/audit-relay.toml if it exists]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l to -d 'Send to this destination; may be given several times, each gets every record: unix:/dev/log, unix-stream:/PATH, udp://HOST[:514], tcp://HOST[:601], tls://HOST[:6514], relp://HOST[:2514], relps://HOST[:2514], stdout: [default: unix:/dev/log]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l failover -d 'Send to the first of these receivers that is well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l balance -d 'Spread over those of these receivers that are well: URL,URL,...' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l format -d 'Message form: auto, rfc5424, rfc3164. auto is rfc3164 on local sockets, else rfc5424' -r -f -a "auto\t''
rfc5424\t''
rfc3164\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l framing -d 'Framing on streams: octet, lf [default: octet on tcp and tls, lf elsewhere]' -r -f -a "octet\t''
lf\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l facility -d 'Syslog facility [default: local6]' -r -f -a "kern\t''
user\t''
mail\t''
daemon\t''
auth\t''
syslog\t''
lpr\t''
news\t''
uucp\t''
cron\t''
authpriv\t''
ftp\t''
local0\t''
local1\t''
local2\t''
local3\t''
local4\t''
local5\t''
local6\t''
local7\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l severity -d 'Syslog severity of records [default: info]' -r -f -a "emerg\t''
alert\t''
crit\t''
err\t''
warning\t''
notice\t''
info\t''
debug\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l hostname -d 'HOSTNAME of messages [default: this host\'s fully qualified name]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l app-name -d 'APP-NAME of messages [default: auditd]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l structured-data -d 'Elements of structured data: meta, origin, time-quality, audit, or none [default: meta]' -r -f -a "meta\t''
origin\t''
time-quality\t''
audit\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l enterprise-number -d 'Your private enterprise number (IANA), for the element `audit`' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l input -d 'Form of the input: auto, text, binary, binary-exact, binary-fixed [default: auto]' -r -f -a "auto\t''
text\t''
binary\t''
binary-exact\t''
binary-fixed\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l eoe -d 'End-of-event records: drop (and count), keep [default: drop]' -r -f -a "drop\t''
keep\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l on-full -d 'When a destination\'s queue is full: auto, block, drop-newest, drop-oldest. auto blocks if the input is a file or a pipe and drops the newest if it is auditd\'s socket' -r -f -a "auto\t''
block\t''
drop-newest\t''
drop-oldest\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l queue-size -d 'Bytes that may wait for one destination [default: 64MiB; 8MiB where a file or a pipe can wait]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l max-message-size -d 'Cut longer messages, visibly [default: what the transport takes]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l replay -d 'What is sent again after a connection over TCP or TLS has ended: unacked, SIZE (that much acknowledged data too, for receivers that die with data unread), off [default: unacked]' -r -f -a "unacked\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l connect-timeout -d 'Limit for looking a name up, for connecting, for the TLS handshake, each [default: 10s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tcp-user-timeout -d 'A peer that acknowledges or takes nothing for this long is dead [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tcp-keepalive -d 'Idle time after which a TCP peer is asked whether it is still there [default: 30s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l relp-window -d 'Messages that may wait for RELP\'s answer [default: 128]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tls-verify -d 'What the receiver\'s certificate has to be: ca, pin, pin-and-ca, none. Without this: ca; or what --tls-pin and --tls-ca together ask for' -r -f -a "ca\t''
pin\t''
pin-and-ca\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tls-ca -d 'Trusted authorities, a PEM file or `system` [default: system]' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tls-pin -d 'Fingerprint (sha256:...) that the receiver\'s certificate must have; several may be named' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tls-name -d 'Name in the receiver\'s certificate, where it is not the host in the URL' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tls-cert -d 'Our own certificate, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tls-key -d 'Its private key, a PEM file' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l tls-crl -d 'Revocation list of the authority, a PEM or DER file; several may be named' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l gather -d 'How long records may gather before they are read, while they come in quick succession, up to 20ms; 0ms: each is read at once [default: 5ms]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l confine -d 'Give up files, ports and system calls that the configuration does not need: auto, require (or do not start), log (only log what is not foreseen), off [default: auto]' -r -f -a "auto\t''
require\t''
log\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l threads -d '1: one thread reads and sends; 2: one each; auto: two for a file, one for a socket as auditd\'s or a pipe [default: auto]' -r -f -a "auto\t''
1\t''
2\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l drain-timeout -d 'Time to deliver the rest after the input has ended [default: 2s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l handover -d 'Folder on tmpfs where undelivered records are left for the next instance; auto is /run/audit-relay under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l user -d 'Account to run as when started as root [default: audit-relay if it exists, else nobody]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l report -d 'Write the accounting here as JSON, at the end and on SIGUSR1' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l status -d 'Socket for `audit-relay status`; auto is /run/audit-relay/status.sock under auditd; off [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l status-group -d 'Group that may connect to that socket [default: root and the relay\'s account only]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l metrics -d 'Serve metrics over HTTP at this address and port of the loopback interface, such as 127.0.0.1:9101' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l metrics-file -d 'Write metrics to this file (*.prom), for node_exporter\'s textfile collector' -r -F
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l metrics-interval -d 'How often the file is written [default: 15s]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l statistics-interval -d 'Send a message STATS with the sums to each destination this often; off [default: off]' -r
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l log -d 'Where diagnostics go: auto, stderr, syslog, none. auto adds syslog under auditd [default: auto]' -r -f -a "auto\t''
stderr\t''
syslog\t''
none\t''"
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l json -d 'Print JSON'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l notes -d 'Print notes too: what is worth knowing and may well be meant'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l list -d 'List the traps that are known'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -l send -d 'Send a long, marked test message to every destination, and look for it where this machine\'s rsyslog writes'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and not __fish_seen_subcommand_from check status install uninstall cert doctor help" -f -a "check" -d 'Validate the configuration and print the one in effect'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and not __fish_seen_subcommand_from check status install uninstall cert doctor help" -f -a "status" -d 'Show what the running relay does: counters, queues, connections. Ends with 0 if all is well, 1 if something needs attention (lines that begin with `!`), 69 if no relay runs'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and not __fish_seen_subcommand_from check status install uninstall cert doctor help" -f -a "install" -d 'Have auditd start the relay, and watch the first records go through it; put everything back if that fails'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and not __fish_seen_subcommand_from check status install uninstall cert doctor help" -f -a "uninstall" -d 'Have auditd start the relay no longer, and remove what install has written'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and not __fish_seen_subcommand_from check status install uninstall cert doctor help" -f -a "cert" -d 'Make a certificate and its key, or show what one says'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and not __fish_seen_subcommand_from check status install uninstall cert doctor help" -f -a "doctor" -d 'Find what loses, doubles or spoils records on this machine, and say what to do. Changes nothing'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and not __fish_seen_subcommand_from check status install uninstall cert doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and __fish_seen_subcommand_from cert" -f -a "new" -d 'Make a private key and a self-signed certificate for both ends of TLS, and print its fingerprints'
complete -c audit-relay -n "__fish_audit_relay_using_subcommand help; and __fish_seen_subcommand_from cert" -f -a "show" -d 'Print the fingerprints, names and dates of the certificates in a PEM file'
