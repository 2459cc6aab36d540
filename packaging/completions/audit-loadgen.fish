# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_audit_loadgen_global_optspecs
    string join \n to= framing= sink-path= feed= count= duration= rate= ramp= burst= warm-up= form= frames= seed= eoe mix= size= trace= settle= timeout= linger= max-lag= bare allow-loss runs= sink-stall= sink-read-rate= sink-reset-after= sink-accept-delay= sink-buffer= json= html= hgrm= hlog= h/help V/version
end

function __fish_audit_loadgen_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_audit_loadgen_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_audit_loadgen_using_subcommand
    set -l cmd (__fish_audit_loadgen_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l to -d 'Built-in receiver' -r -f -a "unix\t'Unix datagram socket, as /dev/log'
unix-stream\t'Unix stream socket'
udp\t'UDP on the loopback interface'
tcp\t'TCP on the loopback interface'
tls\t'TLS 1.3 or 1.2 on the loopback interface'
relp\t'RELP on the loopback interface'
relps\t'RELP over TLS'
none\t'No receiver: only the cost of the target is measured'"
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l framing -d 'Framing asked of the default command and of the floor (the sink tells by itself)' -r -f -a "octet\t'`LENGTH SP MESSAGE`'
lf\t'`MESSAGE LF`'"
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l sink-path -d 'Path of the Unix sink, e.g. /dev/log [default: in a temporary directory]' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l feed -d 'How records reach the program' -r -f -a "socketpair\t'AF_UNIX stream socket pair, one write per record, as auditd does'
pipe\t'Pipe, blocks of up to 64 KiB'"
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l count -d 'Records to write, EOE lines included [default: 200000, or no limit with --duration, or the whole --trace]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l duration -d 'Stop after this time, e.g. 10, 1.5s, 500ms' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l rate -d 'Records a second; 0 is as fast as possible' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l ramp -d 'From one rate to another along a line, over --duration, e.g. 1000..50000' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l burst -d 'Many records at once, again and again, e.g. 1000/1s' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l warm-up -d 'Write that many lines, or for that time, before measuring: what is lost counts, but no latency, rate or CPU (2000 is lines, 2s or 500ms is a time)' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l form -d 'What auditd writes' -r -f -a "text\t'`format = string`: one line per record'
binary0\t'`format = binary`, log_format RAW: the kernel\'s payload, version 0'
binary1\t'`format = binary`, log_format ENRICHED: the formatted line, version 1'"
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l frames -d 'How binary frames end' -r -f -a "exact\t'As long as the header says (auditd 4.1.1 and later)'
fixed\t'Always 8970 bytes of payload area, stale bytes after the payload (auditd before 4.1.1)'"
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l seed -d 'Seed of the generated records' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l mix -d 'Which records [default: host, or single with --size]' -r -f -a "host\t'As on a real host: types, proportions and lengths of a recorded stream'
nasty\t'What is hard to relay: 8970 bytes, control characters, no UTF-8, look-alikes of frames and headers'
single\t'User records, one an event, all of one length'"
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l size -d 'Bytes of every record line of the mix `single`, the line feed not counted: 120 to 8970 [default: 240]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l trace -d 'Replay the lines of a recorded text stream once, instead of generated records' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l settle -d 'Pause between the start of the program and the first record' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l timeout -d 'How long the program may leave its stdin full, or run on after its end, before it is killed' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l linger -d 'How long to wait for missing records after the program\'s end' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l max-lag -d 'Lateness of the generator that counts as on time; the plan is kept if 99 % of the records are' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l runs -d 'Repeat the run this many times; the details told are those of the run whose CPU cost is the median' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l sink-stall -l stall -d 'At AFTER from the first byte on it does nothing for TIME, e.g. 2s:1s; several are possible, in order' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l sink-read-rate -l read-rate -d 'It reads at most so many bytes a second' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l sink-reset-after -l reset-after -d 'It resets a connection that has brought so many bytes' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l sink-accept-delay -l accept-delay -d 'It lets each connection wait so long' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l sink-buffer -l buffer -d 'Its receive buffer; a small one shows its faults to the sender sooner; 0 leaves it to the kernel\'s settings [default: 64 MiB, if that is allowed]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l json -d 'Also write the report as JSON' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l html -d 'Also write the report as a page with charts, to be opened in a browser' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l hgrm -d 'Also write the latencies as a percentile table (us) for HdrHistogram\'s plotters' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l hlog -d 'Also write the latencies (ns) as an HdrHistogram interval log, V2 compressed' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l eoe -d 'End events with EOE lines (written, not expected to arrive)'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l bare -d 'Messages come without PRI: from a program that passes the lines on as they are'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -l allow-loss -d 'Exit 0 although records were lost, duplicated, reordered or torn, or the program\'s exit code is not 0'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -s V -l version -d 'Print version'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "run" -d 'Drive a program (the default)'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "floor" -d 'Drive the built-in minimal relay: the floor to compare with (there is none for RELP)'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "verify" -d 'Check what a receiver wrote to files during a run'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "kernel" -d 'Real load through the kernel\'s audit system and an auditd of its own, with the program as auditd\'s plugin'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "send" -d 'Send the records as a syslog client, to any server or to a receiver of its own'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "sink" -d 'Only receive: for any client, with faults if wanted'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "compare" -d 'Drive the relay, every peer found on this machine and two floors in turn, and compare them'
complete -c audit-loadgen -n "__fish_audit_loadgen_needs_command" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l to -d 'Built-in receiver' -r -f -a "unix\t'Unix datagram socket, as /dev/log'
unix-stream\t'Unix stream socket'
udp\t'UDP on the loopback interface'
tcp\t'TCP on the loopback interface'
tls\t'TLS 1.3 or 1.2 on the loopback interface'
relp\t'RELP on the loopback interface'
relps\t'RELP over TLS'
none\t'No receiver: only the cost of the target is measured'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l framing -d 'Framing asked of the default command and of the floor (the sink tells by itself)' -r -f -a "octet\t'`LENGTH SP MESSAGE`'
lf\t'`MESSAGE LF`'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l sink-path -d 'Path of the Unix sink, e.g. /dev/log [default: in a temporary directory]' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l feed -d 'How records reach the program' -r -f -a "socketpair\t'AF_UNIX stream socket pair, one write per record, as auditd does'
pipe\t'Pipe, blocks of up to 64 KiB'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l count -d 'Records to write, EOE lines included [default: 200000, or no limit with --duration, or the whole --trace]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l duration -d 'Stop after this time, e.g. 10, 1.5s, 500ms' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l rate -d 'Records a second; 0 is as fast as possible' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l ramp -d 'From one rate to another along a line, over --duration, e.g. 1000..50000' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l burst -d 'Many records at once, again and again, e.g. 1000/1s' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l warm-up -d 'Write that many lines, or for that time, before measuring: what is lost counts, but no latency, rate or CPU (2000 is lines, 2s or 500ms is a time)' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l form -d 'What auditd writes' -r -f -a "text\t'`format = string`: one line per record'
binary0\t'`format = binary`, log_format RAW: the kernel\'s payload, version 0'
binary1\t'`format = binary`, log_format ENRICHED: the formatted line, version 1'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l frames -d 'How binary frames end' -r -f -a "exact\t'As long as the header says (auditd 4.1.1 and later)'
fixed\t'Always 8970 bytes of payload area, stale bytes after the payload (auditd before 4.1.1)'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l seed -d 'Seed of the generated records' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l mix -d 'Which records [default: host, or single with --size]' -r -f -a "host\t'As on a real host: types, proportions and lengths of a recorded stream'
nasty\t'What is hard to relay: 8970 bytes, control characters, no UTF-8, look-alikes of frames and headers'
single\t'User records, one an event, all of one length'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l size -d 'Bytes of every record line of the mix `single`, the line feed not counted: 120 to 8970 [default: 240]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l trace -d 'Replay the lines of a recorded text stream once, instead of generated records' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l settle -d 'Pause between the start of the program and the first record' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l timeout -d 'How long the program may leave its stdin full, or run on after its end, before it is killed' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l linger -d 'How long to wait for missing records after the program\'s end' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l max-lag -d 'Lateness of the generator that counts as on time; the plan is kept if 99 % of the records are' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l runs -d 'Repeat the run this many times; the details told are those of the run whose CPU cost is the median' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l sink-stall -l stall -d 'At AFTER from the first byte on it does nothing for TIME, e.g. 2s:1s; several are possible, in order' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l sink-read-rate -l read-rate -d 'It reads at most so many bytes a second' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l sink-reset-after -l reset-after -d 'It resets a connection that has brought so many bytes' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l sink-accept-delay -l accept-delay -d 'It lets each connection wait so long' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l sink-buffer -l buffer -d 'Its receive buffer; a small one shows its faults to the sender sooner; 0 leaves it to the kernel\'s settings [default: 64 MiB, if that is allowed]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l json -d 'Also write the report as JSON' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l html -d 'Also write the report as a page with charts, to be opened in a browser' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l hgrm -d 'Also write the latencies as a percentile table (us) for HdrHistogram\'s plotters' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l hlog -d 'Also write the latencies (ns) as an HdrHistogram interval log, V2 compressed' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l eoe -d 'End events with EOE lines (written, not expected to arrive)'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l bare -d 'Messages come without PRI: from a program that passes the lines on as they are'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -l allow-loss -d 'Exit 0 although records were lost, duplicated, reordered or torn, or the program\'s exit code is not 0'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l to -d 'Built-in receiver' -r -f -a "unix\t'Unix datagram socket, as /dev/log'
unix-stream\t'Unix stream socket'
udp\t'UDP on the loopback interface'
tcp\t'TCP on the loopback interface'
tls\t'TLS 1.3 or 1.2 on the loopback interface'
relp\t'RELP on the loopback interface'
relps\t'RELP over TLS'
none\t'No receiver: only the cost of the target is measured'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l framing -d 'Framing asked of the default command and of the floor (the sink tells by itself)' -r -f -a "octet\t'`LENGTH SP MESSAGE`'
lf\t'`MESSAGE LF`'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l sink-path -d 'Path of the Unix sink, e.g. /dev/log [default: in a temporary directory]' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l feed -d 'How records reach the program' -r -f -a "socketpair\t'AF_UNIX stream socket pair, one write per record, as auditd does'
pipe\t'Pipe, blocks of up to 64 KiB'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l count -d 'Records to write, EOE lines included [default: 200000, or no limit with --duration, or the whole --trace]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l duration -d 'Stop after this time, e.g. 10, 1.5s, 500ms' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l rate -d 'Records a second; 0 is as fast as possible' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l ramp -d 'From one rate to another along a line, over --duration, e.g. 1000..50000' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l burst -d 'Many records at once, again and again, e.g. 1000/1s' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l warm-up -d 'Write that many lines, or for that time, before measuring: what is lost counts, but no latency, rate or CPU (2000 is lines, 2s or 500ms is a time)' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l form -d 'What auditd writes' -r -f -a "text\t'`format = string`: one line per record'
binary0\t'`format = binary`, log_format RAW: the kernel\'s payload, version 0'
binary1\t'`format = binary`, log_format ENRICHED: the formatted line, version 1'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l frames -d 'How binary frames end' -r -f -a "exact\t'As long as the header says (auditd 4.1.1 and later)'
fixed\t'Always 8970 bytes of payload area, stale bytes after the payload (auditd before 4.1.1)'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l seed -d 'Seed of the generated records' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l mix -d 'Which records [default: host, or single with --size]' -r -f -a "host\t'As on a real host: types, proportions and lengths of a recorded stream'
nasty\t'What is hard to relay: 8970 bytes, control characters, no UTF-8, look-alikes of frames and headers'
single\t'User records, one an event, all of one length'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l size -d 'Bytes of every record line of the mix `single`, the line feed not counted: 120 to 8970 [default: 240]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l trace -d 'Replay the lines of a recorded text stream once, instead of generated records' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l settle -d 'Pause between the start of the program and the first record' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l timeout -d 'How long the program may leave its stdin full, or run on after its end, before it is killed' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l linger -d 'How long to wait for missing records after the program\'s end' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l max-lag -d 'Lateness of the generator that counts as on time; the plan is kept if 99 % of the records are' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l runs -d 'Repeat the run this many times; the details told are those of the run whose CPU cost is the median' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l sink-stall -l stall -d 'At AFTER from the first byte on it does nothing for TIME, e.g. 2s:1s; several are possible, in order' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l sink-read-rate -l read-rate -d 'It reads at most so many bytes a second' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l sink-reset-after -l reset-after -d 'It resets a connection that has brought so many bytes' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l sink-accept-delay -l accept-delay -d 'It lets each connection wait so long' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l sink-buffer -l buffer -d 'Its receive buffer; a small one shows its faults to the sender sooner; 0 leaves it to the kernel\'s settings [default: 64 MiB, if that is allowed]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l json -d 'Also write the report as JSON' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l html -d 'Also write the report as a page with charts, to be opened in a browser' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l hgrm -d 'Also write the latencies as a percentile table (us) for HdrHistogram\'s plotters' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l hlog -d 'Also write the latencies (ns) as an HdrHistogram interval log, V2 compressed' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l eoe -d 'End events with EOE lines (written, not expected to arrive)'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l bare -d 'Messages come without PRI: from a program that passes the lines on as they are'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -l allow-loss -d 'Exit 0 although records were lost, duplicated, reordered or torn, or the program\'s exit code is not 0'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand floor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l count -d 'Records that must have arrived, `sent` in the run\'s report [default: the highest number found, plus one, or all of --trace]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l form -d 'What auditd writes' -r -f -a "text\t'`format = string`: one line per record'
binary0\t'`format = binary`, log_format RAW: the kernel\'s payload, version 0'
binary1\t'`format = binary`, log_format ENRICHED: the formatted line, version 1'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l frames -d 'How binary frames end' -r -f -a "exact\t'As long as the header says (auditd 4.1.1 and later)'
fixed\t'Always 8970 bytes of payload area, stale bytes after the payload (auditd before 4.1.1)'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l seed -d 'Seed of the generated records' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l mix -d 'Which records [default: host, or single with --size]' -r -f -a "host\t'As on a real host: types, proportions and lengths of a recorded stream'
nasty\t'What is hard to relay: 8970 bytes, control characters, no UTF-8, look-alikes of frames and headers'
single\t'User records, one an event, all of one length'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l size -d 'Bytes of every record line of the mix `single`, the line feed not counted: 120 to 8970 [default: 240]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l trace -d 'Replay the lines of a recorded text stream once, instead of generated records' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l json -d 'Also write the account as JSON' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l eoe -d 'End events with EOE lines (written, not expected to arrive)'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -l allow-loss -d 'Exit 0 although records were lost, duplicated, reordered or torn'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l load -d 'What makes the records' -r -f -a "user\t'User messages, as PAM sends them: one record each'
exec\t'Programs started: about six records each'
open\t'Files opened: about four records each'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l rate -d 'Messages, programs or files a second; 0 is as fast as possible' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l duration -d 'Stop after this time, e.g. 10, 1.5s, 500ms [default: 10s, or no limit with --count]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l count -d 'Messages, programs or files in all' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l size -d 'Bytes of a user message\'s text' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l auditd -d 'The auditd to start [default: the one in /usr/sbin or /sbin]' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l root -d 'Folder with another system in it, whose auditd is to be started (in a mount namespace of its own)' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l write-logs -d 'auditd.conf: write_logs' -r -f -a "yes\t'yes'
no\t'no'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l log-format -d 'auditd.conf: log_format' -r -f -a "enriched\t'With auditd\'s names for numbers added'
raw\t'As the kernel has it'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l q-depth -d 'auditd.conf: q_depth' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l auditd-set -d 'Any other key of auditd.conf, e.g. flush=NONE or priority_boost=0; may be given several times' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l backlog -d 'The kernel\'s backlog limit' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l plugin-format -d 'The plugin\'s format' -r -f -a "string\t'Lines'
binary\t'auditd\'s binary frames'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l to -d 'Built-in receiver [default: tcp, with --attach none]' -r -f -a "unix\t'Unix datagram socket, as /dev/log'
unix-stream\t'Unix stream socket'
udp\t'UDP on the loopback interface'
tcp\t'TCP on the loopback interface'
tls\t'TLS 1.3 or 1.2 on the loopback interface'
relp\t'RELP on the loopback interface'
relps\t'RELP over TLS'
none\t'No receiver: only the cost of the target is measured'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l sink-path -d 'Path of the Unix sink, e.g. /dev/log [default: in the working directory; with --root it is that system\'s /dev/log as well]' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l work -d 'Where the working directory is made, with auditd\'s log file in it' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l settle -d 'Pause between the start of auditd and the load' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l linger -d 'How long to wait for missing records after the last one that arrived' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l max-lag -d 'Lateness of the generator that counts as on time; the plan is kept if 99 % of the load is' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l runs -d 'How often to make the run, each time with an auditd of its own; with --attach with the one that runs' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l json -d 'Also write the report as JSON' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l html -d 'Also write the report as a page with charts, to be opened in a browser' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l hgrm -d 'Also write the latencies as a percentile table (us) for HdrHistogram\'s plotters' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l hlog -d 'Also write the latencies (ns) as an HdrHistogram interval log, V2 compressed' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l attach -d 'Use the auditd that runs: only make load and watch. The plugin is auditd\'s, so no command may be given; there is a sink only with --to unix or unix-stream and --sink-path'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -l allow-loss -d 'Exit 0 although events were lost, duplicated, reordered or torn'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand kernel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l to -d 'udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, relp://HOST:PORT, relps://HOST:PORT, unix:PATH, unix-stream:PATH; or self:tcp and the like: a receiver of its own, so that loss and latency are known' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l connections -d 'Connections, each with a stream of its own' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l threads -d 'Threads that share the connections [default: one for each core that has nothing else to do]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l count -d 'Messages to send [default: 1000000, or no limit with --duration, or the whole --trace]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l duration -d 'Stop after this time, e.g. 10, 1.5s, 500ms' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l rate -d 'Records a second; 0 is as fast as possible' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l ramp -d 'From one rate to another along a line, over --duration, e.g. 1000..50000' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l burst -d 'Many records at once, again and again, e.g. 1000/1s' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l warm-up -d 'Send that many messages, or with a schedule for that time, before measuring: what is lost counts, but no latency, rate or CPU (2000 is messages, of all connections; 2s or 500ms is a time)' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l framing -d 'Framing on streams [default: lf on unix-stream, else octet]' -r -f -a "octet\t'`LENGTH SP MESSAGE`'
lf\t'`MESSAGE LF`'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l seed -d 'Seed of the records; sender and receiver need the same' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l mix -d 'Which records [default: host, or single with --size]' -r -f -a "host\t'As on a real host: types, proportions and lengths of a recorded stream'
nasty\t'What is hard to relay: 8970 bytes, control characters, no UTF-8, look-alikes of frames and headers'
single\t'User records, one an event, all of one length'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l size -d 'Bytes of every record of the mix `single`; the message is 56 bytes longer [default: 240]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l trace -d 'The lines of a recorded text stream, once, instead of generated records' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l window -d 'RELP: messages that may be unanswered' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l ca -d 'PEM file with the certificates to trust' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l timeout -d 'How long the receiver may take nothing, or not answer, before it is given up' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l linger -d 'How long to wait at the end for the receiver to close, and for missing messages at a receiver of its own' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l max-lag -d 'Lateness of the sender that counts as on time; the plan is kept if 99 % of the messages are' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l runs -d 'Repeat it this many times; the details told are those of the run whose rate is the median' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l sink-stall -l stall -d 'At AFTER from the first byte on it does nothing for TIME, e.g. 2s:1s; several are possible, in order' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l sink-read-rate -l read-rate -d 'It reads at most so many bytes a second' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l sink-reset-after -l reset-after -d 'It resets a connection that has brought so many bytes' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l sink-accept-delay -l accept-delay -d 'It lets each connection wait so long' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l sink-buffer -l buffer -d 'Its receive buffer; a small one shows its faults to the sender sooner; 0 leaves it to the kernel\'s settings [default: 64 MiB, if that is allowed]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l json -d 'Also write the report as JSON' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l html -d 'Also write the report as a page with charts, to be opened in a browser' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l hgrm -d 'Also write the latencies as a percentile table (us) for HdrHistogram\'s plotters' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l hlog -d 'Also write the latencies (ns) as an HdrHistogram interval log, V2 compressed' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l insecure -d 'Believe any certificate'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l bare -d 'For comparison: the same bytes by bare system calls, nothing patched but the first lap; loss is not known then'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -l allow-loss -d 'Exit 0 although messages were lost, duplicated, reordered or torn'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l listen -d 'tcp://HOST:PORT and the like; without HOST 127.0.0.1; only `tcp` is a free port, only `unix` a path of its own' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l seed -d 'Seed of the records; sender and receiver need the same' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l mix -d 'Which records [default: host, or single with --size]' -r -f -a "host\t'As on a real host: types, proportions and lengths of a recorded stream'
nasty\t'What is hard to relay: 8970 bytes, control characters, no UTF-8, look-alikes of frames and headers'
single\t'User records, one an event, all of one length'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l size -d 'Bytes of every record of the mix `single`; the message is 56 bytes longer [default: 240]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l trace -d 'The lines of a recorded text stream, once, instead of generated records' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l write -d 'Write what comes to this file, one message a line' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l duration -d 'End after this time [default: at SIGINT or SIGTERM]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l expect -d 'End once so many different records have arrived and the senders have closed' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l linger -d 'How long to wait for the senders to close once what was expected has come' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l json -d 'Also write the report as JSON' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l sink-stall -l stall -d 'At AFTER from the first byte on it does nothing for TIME, e.g. 2s:1s; several are possible, in order' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l sink-read-rate -l read-rate -d 'It reads at most so many bytes a second' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l sink-reset-after -l reset-after -d 'It resets a connection that has brought so many bytes' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l sink-accept-delay -l accept-delay -d 'It lets each connection wait so long' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l sink-buffer -l buffer -d 'Its receive buffer; a small one shows its faults to the sender sooner; 0 leaves it to the kernel\'s settings [default: 64 MiB, if that is allowed]' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l discard -d 'Count messages, do not judge them: the fastest drain'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -l allow-loss -d 'Exit 0 although records were lost, duplicated, reordered or torn'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand sink" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l to -d 'Built-in receivers to send to, each compared by itself; none: what writes files' -r -f -a "unix\t'Unix datagram socket, as /dev/log'
unix-stream\t'Unix stream socket'
udp\t'UDP on the loopback interface'
tcp\t'TCP on the loopback interface'
tls\t'TLS 1.3 or 1.2 on the loopback interface'
relp\t'RELP on the loopback interface'
relps\t'RELP over TLS'
none\t'No receiver: only the cost of the target is measured'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l count -d 'Records each contestant gets in each round' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l rate -d 'Records a second, and latencies in the table; 0 is as fast as possible' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l runs -d 'Rounds: in each, every contestant has one run, in an order of its own' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l feed -d 'How records reach the contestants' -r -f -a "socketpair\t'AF_UNIX stream socket pair, one write per record, as auditd does'
pipe\t'Pipe, blocks of up to 64 KiB'"
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l seed -d 'Seed of the generated records and of the order in each round' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l only -d 'Only contestants whose name begins with one of these, e.g. audit-relay,floor,syslog-ng' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l root -d 'Look for peers in this folder, too: a chroot, or a package unpacked (repeatable)' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l with -d 'A contestant of your own; COMMAND is split at blanks and may contain {to}, {path}, {port}, {ca} (repeatable)' -r
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l json -d 'Also write everything as JSON: every run\'s report, and the summary' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l html -d 'Also write everything as a page with charts, to be opened in a browser' -r -F
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -l list -d 'Only say which contestants there are, which not, and why'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand compare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "run" -d 'Drive a program (the default)'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "floor" -d 'Drive the built-in minimal relay: the floor to compare with (there is none for RELP)'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "verify" -d 'Check what a receiver wrote to files during a run'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "kernel" -d 'Real load through the kernel\'s audit system and an auditd of its own, with the program as auditd\'s plugin'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "send" -d 'Send the records as a syslog client, to any server or to a receiver of its own'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "sink" -d 'Only receive: for any client, with faults if wanted'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "compare" -d 'Drive the relay, every peer found on this machine and two floors in turn, and compare them'
complete -c audit-loadgen -n "__fish_audit_loadgen_using_subcommand help; and not __fish_seen_subcommand_from run floor verify kernel send sink compare help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
