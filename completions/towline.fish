# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_towline_global_optspecs
    string join \n h/help V/version
end

function __fish_towline_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_towline_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_towline_using_subcommand
    set -l cmd (__fish_towline_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c towline -n "__fish_towline_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_needs_command" -s V -l version -d 'Print version'
complete -c towline -n "__fish_towline_needs_command" -f -a "send" -d 'Sends files and directories'
complete -c towline -n "__fish_towline_needs_command" -f -a "receive" -d 'Receives files and directories'
complete -c towline -n "__fish_towline_needs_command" -f -a "bench" -d 'Measures the real protocol, without disks or with them, and says what limited it'
complete -c towline -n "__fish_towline_needs_command" -f -a "id" -d 'Shows the identity of this machine, or makes a new one'
complete -c towline -n "__fish_towline_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c towline -n "__fish_towline_using_subcommand send" -l to -d 'Whom to send to; without it, waits for one receiver' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l wait -d 'Give up when nobody has come after this long, such as 5m [default: wait for ever]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l background -d 'Makes way for other traffic on the link' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l manifest -d 'Writes a line for `b3sum --check` for each file that was sent' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -l listen -d 'Address to wait at [default: port 4750 of every address, or a free port]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l fingerprint -d 'Fingerprint of the other side' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l streams -d 'Parcels on the way at once, at most [default: as memory allows]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l connections -d 'QUIC connections between the two machines [default: what the other side asks for, or 1]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l chunk-size -d 'Bytes of a chunk, a power of two from 1M to 64M [default: 1M]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l bwlimit -d 'Bytes a second that may travel, perhaps by the time of the day [default: off]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l memory -d 'Memory that the transfer may use, at least 8M and eight chunks [default: 64M]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l congestion -d 'Congestion control [default: auto]' -r -f -a "auto\t'By delivery rate and round-trip time'
cubic\t'CUBIC (RFC 9438)'
newreno\t'NewReno (RFC 9002)'"
complete -c towline -n "__fish_towline_using_subcommand send" -l timeout -d 'Gives up when nothing was acked for so long, such as 30s or 2m [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l disk-timeout -d 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l no-fsync -d 'Does not sync to disk: faster, but what was called done can be lost when the machine stops' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l json -d 'Writes one JSON object per event to standard output, and nothing but errors to standard error' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -s q -l quiet -d 'Shows nothing but errors (and, when waiting, the command for the other machine)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l no-progress -d 'Shows plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand send" -l config -d 'Config file [default: towline/config.toml in the user\'s configuration directory]' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -s r -d 'Taken and without effect: directories are always sent with all that is in them'
complete -c towline -n "__fish_towline_using_subcommand send" -s v -l verbose -d 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)'
complete -c towline -n "__fish_towline_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand receive" -l from -d 'Whom to fetch from; without it, waits for one sender' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l wait -d 'Give up when nobody has come after this long, such as 5m [default: wait for ever]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l into -d 'Directory to put files into [default: .]' -r -f -a "(__fish_complete_directories)"
complete -c towline -n "__fish_towline_using_subcommand receive" -l exists -d 'What to do when something else has the name already [default: refuse]' -r -f -a "refuse\t'Do not receive the file; the exit code is then 5'
skip\t'Keep the existing file; this is not an error'
replace\t'Replace the existing file'
rename\t'Save the new file under another name'"
complete -c towline -n "__fish_towline_using_subcommand receive" -l yes -d 'Takes what is offered without asking' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l manifest -d 'Writes a line for `b3sum --check` for each file that was received' -r -F
complete -c towline -n "__fish_towline_using_subcommand receive" -l listen -d 'Address to wait at [default: port 4750 of every address, or a free port]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l fingerprint -d 'Fingerprint of the other side' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l streams -d 'Parcels on the way at once, at most [default: as memory allows]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l connections -d 'QUIC connections between the two machines [default: what the other side asks for, or 1]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l chunk-size -d 'Bytes of a chunk, a power of two from 1M to 64M [default: 1M]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l bwlimit -d 'Bytes a second that may travel, perhaps by the time of the day [default: off]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l memory -d 'Memory that the transfer may use, at least 8M and eight chunks [default: 64M]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l congestion -d 'Congestion control [default: auto]' -r -f -a "auto\t'By delivery rate and round-trip time'
cubic\t'CUBIC (RFC 9438)'
newreno\t'NewReno (RFC 9002)'"
complete -c towline -n "__fish_towline_using_subcommand receive" -l timeout -d 'Gives up when nothing was acked for so long, such as 30s or 2m [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l disk-timeout -d 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l no-fsync -d 'Does not sync to disk: faster, but what was called done can be lost when the machine stops' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l json -d 'Writes one JSON object per event to standard output, and nothing but errors to standard error' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -s q -l quiet -d 'Shows nothing but errors (and, when waiting, the command for the other machine)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l no-progress -d 'Shows plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand receive" -l config -d 'Config file [default: towline/config.toml in the user\'s configuration directory]' -r -F
complete -c towline -n "__fish_towline_using_subcommand receive" -s v -l verbose -d 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)'
complete -c towline -n "__fish_towline_using_subcommand receive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand bench" -l to -d 'Whom to measure with: a machine where `towline bench --wait` waits' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l wait -d 'Waits for one bench of another machine and is its receiving side; --listen says so too' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l size -d 'Bytes of the one file to send [default: 4G, or 512M with --to or --disk]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l files -d 'Sends so many files of 4 KiB instead of one large one' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l disk -d 'Has the files of this side on the disk of DIR, in a directory that is removed at the end' -r -f -a "(__fish_complete_directories)"
complete -c towline -n "__fish_towline_using_subcommand bench" -l listen -d 'Address to wait at [default: port 4750 of every address, or a free port]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l fingerprint -d 'Fingerprint of the other side' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l streams -d 'Parcels on the way at once, at most [default: as memory allows]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l connections -d 'QUIC connections between the two machines [default: what the other side asks for, or 1]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l chunk-size -d 'Bytes of a chunk, a power of two from 1M to 64M [default: 1M]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l bwlimit -d 'Bytes a second that may travel, perhaps by the time of the day [default: off]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l memory -d 'Memory that the transfer may use, at least 8M and eight chunks [default: 64M]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l congestion -d 'Congestion control [default: auto]' -r -f -a "auto\t'By delivery rate and round-trip time'
cubic\t'CUBIC (RFC 9438)'
newreno\t'NewReno (RFC 9002)'"
complete -c towline -n "__fish_towline_using_subcommand bench" -l timeout -d 'Gives up when nothing was acked for so long, such as 30s or 2m [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l disk-timeout -d 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l no-fsync -d 'Does not sync to disk: faster, but what was called done can be lost when the machine stops' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -l json -d 'Writes one JSON object per event to standard output, and nothing but errors to standard error' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -s q -l quiet -d 'Shows nothing but errors (and, when waiting, the command for the other machine)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -l no-progress -d 'Shows plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand bench" -l config -d 'Config file [default: towline/config.toml in the user\'s configuration directory]' -r -F
complete -c towline -n "__fish_towline_using_subcommand bench" -s v -l verbose -d 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)'
complete -c towline -n "__fish_towline_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand id" -l json -d 'Writes one JSON object per event to standard output, and nothing but errors to standard error' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand id" -s q -l quiet -d 'Shows nothing but errors (and, when waiting, the command for the other machine)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand id" -l no-progress -d 'Shows plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand id" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand id" -l config -d 'Config file [default: towline/config.toml in the user\'s configuration directory]' -r -F
complete -c towline -n "__fish_towline_using_subcommand id" -s v -l verbose -d 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)'
complete -c towline -n "__fish_towline_using_subcommand id" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id help" -f -a "send" -d 'Sends files and directories'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id help" -f -a "receive" -d 'Receives files and directories'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id help" -f -a "bench" -d 'Measures the real protocol, without disks or with them, and says what limited it'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id help" -f -a "id" -d 'Shows the identity of this machine, or makes a new one'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
