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
complete -c towline -n "__fish_towline_needs_command" -f -a "send" -d 'Send files and directories'
complete -c towline -n "__fish_towline_needs_command" -f -a "receive" -d 'Receive files and directories'
complete -c towline -n "__fish_towline_needs_command" -f -a "bench" -d 'Measure speed with test data, and show what limited it'
complete -c towline -n "__fish_towline_needs_command" -f -a "id" -d 'Show this machine\'s identity, or make a new one'
complete -c towline -n "__fish_towline_needs_command" -f -a "peers" -d 'List, add, change or remove the machines that this one knows'
complete -c towline -n "__fish_towline_needs_command" -f -a "config" -d 'Show each setting, its value and where it comes from'
complete -c towline -n "__fish_towline_needs_command" -f -a "receipt" -d 'Check a receipt of `send --receipt`'
complete -c towline -n "__fish_towline_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c towline -n "__fish_towline_using_subcommand send" -l to -d 'Peer to send to [default: wait for one receiver]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l wait -d 'Give up after this long without a peer [default: never]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l background -d 'Give way to other traffic on the link' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l remove-source -d 'Remove each source once it is on the receiver\'s disk' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l delta -d 'Send only what the file to be replaced does not have [default: auto]' -r -f -a "auto\t'Where that saves time on the path at hand'
off\t'Send each file whole'"
complete -c towline -n "__fish_towline_using_subcommand send" -l verify-disk -d 'Read each file back from the disk before it gets its name' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l receipt -d 'Keep a receipt, signed by the receiver' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -l manifest -d 'Write a line for `b3sum --check` for each file sent' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -l name -d 'Name that the receiver gives to standard input [default: stdin]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l compress -d 'Compress what is sent: auto, off, or a level from 1 to 12 [default: off]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l forever -d 'Stay, and serve known peers, several at once' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l tickets -d 'With --forever: also let in whoever has the ticket' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l transfers -d 'With --forever: maximum transfers at once [default: 4]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l grace -d 'With --forever: time for running transfers to end after a signal [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l exists -d 'Existing files: refuse, skip, rename, replace [default: as the receiving side has it]' -r -f -a "refuse\t'Do not receive the file; the exit code is then 5'
skip\t'Keep the existing file; this is not an error'
replace\t'Replace the existing file'
rename\t'Save the new file under another name'"
complete -c towline -n "__fish_towline_using_subcommand send" -l delete -d 'Delete at the receiver what is not in the source' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l max-delete -d 'With --delete: delete nothing if there is more than this to delete' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l backup-dir -d 'With --delete: move it to this directory under the target instead' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -s n -l dry-run -d 'Change nothing, and list what would happen' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -s c -l checksum -d 'Compare contents by BLAKE3, although size and time agree' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l atomic -d 'Give all files their names together at the end, or none; only with dir: and ssh:' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l yes -d 'Copy towline by ssh: to a machine that has none, without asking' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l exclude -d 'Leave out what matches; may be repeated' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l include -d 'Send what matches, although --exclude matches too; may be repeated' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l exclude-from -d 'Leave out what the lines of FILE match, as in a .gitignore; may be repeated' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -l ignore-files -d 'Honour the .gitignore and .towlineignore of each directory' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l files-from -d 'Send only the paths in FILE, a line each, relative to the one SOURCE' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -s 0 -l null -d 'Paths of --files-from end with NUL instead of a line feed' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l one-file-system -d 'Leave out what is on other file systems than SOURCE' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l min-size -d 'Leave out smaller files' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l max-size -d 'Leave out larger files' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l contents -d 'Send what is in the directory SOURCE, instead of the directory' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -s a -l archive -d 'Keep everything: --owner --special-bits --acls --xattrs' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -s o -l owner -d 'Keep owner and group, by name where the receiver has one of that name' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l numeric-ids -d 'Keep owners by number, whatever their names are at the receiver' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l special-bits -d 'Keep set-user-id, set-group-id and sticky bits' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -s A -l acls -d 'Keep POSIX ACLs' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -s X -l xattrs -d 'Keep extended attributes: user.*, security.* and trusted.*' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l allow -d 'Let in this known peer without a ticket; may be repeated' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l ca -d 'Trust the certificates of this authority' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -l cert -d 'With --ca: the certificate of this side, and those between it and the authority' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -l key -d 'With --ca: the key of --cert' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -l peer-name -d 'With --ca: name that the certificate of the peer must be for' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l words -d 'Words of the one-time code that this side prints [default: 2]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l uses -d 'Transfers that the ticket serves, one after the other [default: 1]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l expires -d 'Replace the ticket and the code after this long [default: never]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l qr -d 'Draw the ticket as a QR code: auto (on a terminal), always or never' -r -f -a "auto\t'On a terminal'
always\t'Even into a file'
never\t'No QR code'"
complete -c towline -n "__fish_towline_using_subcommand send" -l verify -d 'Compare four words with the other side before anything is sent' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l remember -d 'Keep the peer as a known peer under this name' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l ssh -d 'Program that connects, with its arguments [default: ssh]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l no-install -d 'Copy nothing to a machine that has no towline' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l listen -d 'Address to listen on [default: port 4750]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l port-range -d 'UDP ports to listen on, instead of --listen' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l fingerprint -d 'Fingerprint of the peer; run `towline id` there' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l bwlimit -d 'Maximum bytes a second, such as 2M [default: off]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l memory -d 'Memory for the transfer, at least 8M and 8 times --chunk-size [default: 64M]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l streams -d 'Maximum parcels in flight [default: as many as memory allows]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l connections -d 'QUIC connections to the peer [default: what the peer asks for, or 1]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l chunk-size -d 'Chunk size, a power of two from 1M to 64M [default: 1M]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l congestion -d 'Congestion control [default: auto]' -r -f -a "auto\t'By delivery rate and round-trip time'
cubic\t'CUBIC (RFC 9438)'
newreno\t'NewReno (RFC 9002)'"
complete -c towline -n "__fish_towline_using_subcommand send" -l no-path-memory -d 'Do not remember what the network path carries: each transfer measures it anew' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l timeout -d 'Give up after this long without progress, such as 30s or 2m [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l retry -d 'Reconnect for this long after the connection is lost; 0 or forever [default: 60s]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l disk-timeout -d 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l no-fsync -d 'Do not sync to disk: faster, but a crash of the machine can lose files that were reported as done' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l json -d 'Write events to standard output, one JSON object a line' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -s q -l quiet -d 'Show only errors (and the command for the peer)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l no-progress -d 'Show plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand send" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand send" -l profile -d 'Take settings from [profile.NAME] in the config file' -r
complete -c towline -n "__fish_towline_using_subcommand send" -l config -d 'Config file [default: ~/.config/towline/config.toml]' -r -F
complete -c towline -n "__fish_towline_using_subcommand send" -s r -d 'Accepted and ignored: directories are always sent with everything in them'
complete -c towline -n "__fish_towline_using_subcommand send" -s v -l verbose -d 'List each file; -vv and -vvv show more'
complete -c towline -n "__fish_towline_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand receive" -l from -d 'Peer to receive from [default: wait for one sender]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l wait -d 'Give up after this long without a peer [default: never]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l into -d 'Directory, or - for standard output [default: .]' -r -f -a "(__fish_complete_directories)"
complete -c towline -n "__fish_towline_using_subcommand receive" -l exists -d 'Existing files: refuse (default), skip, replace, rename' -r -f -a "refuse\t'Do not receive the file; the exit code is then 5'
skip\t'Keep the existing file; this is not an error'
replace\t'Replace the existing file'
rename\t'Save the new file under another name'"
complete -c towline -n "__fish_towline_using_subcommand receive" -s c -l checksum -d 'Compare contents by BLAKE3, although size and time agree' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l allow-delete -d 'Let the sender delete what it does not send (send --delete)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l atomic -d 'Give all files their names together at the end, or none' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l verify-disk -d 'Read each file back from the disk before it gets its name' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l yes -d 'Receive without asking' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l manifest -d 'Write a line for `b3sum --check` for each file received' -r -F
complete -c towline -n "__fish_towline_using_subcommand receive" -l limit -d 'Bound what is taken in a transfer, such as size=50G; may be repeated' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l list-partial -d 'List what interrupted transfers left in DIR' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l discard-partial -d 'Remove what interrupted transfers left in DIR' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l exec -d 'Run PROGRAM after each transfer that is complete' -r -f -a "(__fish_complete_command)"
complete -c towline -n "__fish_towline_using_subcommand receive" -l exec-timeout -d 'Kill the program of --exec after this long [default: 1h]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l forever -d 'Stay, and serve known peers, several at once' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l tickets -d 'With --forever: also let in whoever has the ticket' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l transfers -d 'With --forever: maximum transfers at once [default: 4]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l grace -d 'With --forever: time for running transfers to end after a signal [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l allow -d 'Let in this known peer without a ticket; may be repeated' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l ca -d 'Trust the certificates of this authority' -r -F
complete -c towline -n "__fish_towline_using_subcommand receive" -l cert -d 'With --ca: the certificate of this side, and those between it and the authority' -r -F
complete -c towline -n "__fish_towline_using_subcommand receive" -l key -d 'With --ca: the key of --cert' -r -F
complete -c towline -n "__fish_towline_using_subcommand receive" -l peer-name -d 'With --ca: name that the certificate of the peer must be for' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l words -d 'Words of the one-time code that this side prints [default: 2]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l uses -d 'Transfers that the ticket serves, one after the other [default: 1]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l expires -d 'Replace the ticket and the code after this long [default: never]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l qr -d 'Draw the ticket as a QR code: auto (on a terminal), always or never' -r -f -a "auto\t'On a terminal'
always\t'Even into a file'
never\t'No QR code'"
complete -c towline -n "__fish_towline_using_subcommand receive" -l verify -d 'Compare four words with the other side before anything is sent' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l remember -d 'Keep the peer as a known peer under this name' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l ssh -d 'Program that connects, with its arguments [default: ssh]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l no-install -d 'Copy nothing to a machine that has no towline' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l listen -d 'Address to listen on [default: port 4750]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l port-range -d 'UDP ports to listen on, instead of --listen' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l fingerprint -d 'Fingerprint of the peer; run `towline id` there' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l bwlimit -d 'Maximum bytes a second, such as 2M [default: off]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l memory -d 'Memory for the transfer, at least 8M and 8 times --chunk-size [default: 64M]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l streams -d 'Maximum parcels in flight [default: as many as memory allows]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l connections -d 'QUIC connections to the peer [default: what the peer asks for, or 1]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l chunk-size -d 'Chunk size, a power of two from 1M to 64M [default: 1M]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l congestion -d 'Congestion control [default: auto]' -r -f -a "auto\t'By delivery rate and round-trip time'
cubic\t'CUBIC (RFC 9438)'
newreno\t'NewReno (RFC 9002)'"
complete -c towline -n "__fish_towline_using_subcommand receive" -l no-path-memory -d 'Do not remember what the network path carries: each transfer measures it anew' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l timeout -d 'Give up after this long without progress, such as 30s or 2m [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l retry -d 'Reconnect for this long after the connection is lost; 0 or forever [default: 60s]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l disk-timeout -d 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l no-fsync -d 'Do not sync to disk: faster, but a crash of the machine can lose files that were reported as done' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l json -d 'Write events to standard output, one JSON object a line' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -s q -l quiet -d 'Show only errors (and the command for the peer)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l no-progress -d 'Show plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receive" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand receive" -l profile -d 'Take settings from [profile.NAME] in the config file' -r
complete -c towline -n "__fish_towline_using_subcommand receive" -l config -d 'Config file [default: ~/.config/towline/config.toml]' -r -F
complete -c towline -n "__fish_towline_using_subcommand receive" -s v -l verbose -d 'List each file; -vv and -vvv show more'
complete -c towline -n "__fish_towline_using_subcommand receive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand bench" -l to -d 'Peer to measure with; it runs `towline bench --wait`' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l wait -d 'Wait for another machine to run one benchmark' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l size -d 'Bytes to send [default: 4G; 512M with --to, --disk]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l files -d 'Send N files of 4 KiB instead of one large file' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l disk -d 'Use the disk of DIR, and remove the files at the end' -r -f -a "(__fish_complete_directories)"
complete -c towline -n "__fish_towline_using_subcommand bench" -l listen -d 'Address to listen on [default: port 4750]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l port-range -d 'UDP ports to listen on, instead of --listen' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l fingerprint -d 'Fingerprint of the peer; run `towline id` there' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l bwlimit -d 'Maximum bytes a second, such as 2M [default: off]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l memory -d 'Memory for the transfer, at least 8M and 8 times --chunk-size [default: 64M]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l streams -d 'Maximum parcels in flight [default: as many as memory allows]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l connections -d 'QUIC connections to the peer [default: what the peer asks for, or 1]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l chunk-size -d 'Chunk size, a power of two from 1M to 64M [default: 1M]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l congestion -d 'Congestion control [default: auto]' -r -f -a "auto\t'By delivery rate and round-trip time'
cubic\t'CUBIC (RFC 9438)'
newreno\t'NewReno (RFC 9002)'"
complete -c towline -n "__fish_towline_using_subcommand bench" -l no-path-memory -d 'Do not remember what the network path carries: each transfer measures it anew' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -l timeout -d 'Give up after this long without progress, such as 30s or 2m [default: 30s]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l retry -d 'Reconnect for this long after the connection is lost; 0 or forever [default: 60s]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l disk-timeout -d 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]' -r
complete -c towline -n "__fish_towline_using_subcommand bench" -l no-fsync -d 'Do not sync to disk: faster, but a crash of the machine can lose files that were reported as done' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -l json -d 'Write events to standard output, one JSON object a line' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -s q -l quiet -d 'Show only errors (and the command for the peer)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -l no-progress -d 'Show plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand bench" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand bench" -l config -d 'Config file [default: ~/.config/towline/config.toml]' -r -F
complete -c towline -n "__fish_towline_using_subcommand bench" -s v -l verbose -d 'List each file; -vv and -vvv show more'
complete -c towline -n "__fish_towline_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand id" -l json -d 'Write events to standard output, one JSON object a line' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand id" -s q -l quiet -d 'Show only errors (and the command for the peer)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand id" -l no-progress -d 'Show plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand id" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand id" -l config -d 'Config file [default: ~/.config/towline/config.toml]' -r -F
complete -c towline -n "__fish_towline_using_subcommand id" -s v -l verbose -d 'List each file; -vv and -vvv show more'
complete -c towline -n "__fish_towline_using_subcommand id" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand peers" -l may -d 'What it may do here, such as send, or none' -r
complete -c towline -n "__fish_towline_using_subcommand peers" -l dir -d 'Where its files go at a receiver that stays' -r -F
complete -c towline -n "__fish_towline_using_subcommand peers" -l policies -d 'What it may do to existing files there, or none' -r
complete -c towline -n "__fish_towline_using_subcommand peers" -l quota -d 'Bytes that it may fill there, such as 100G, or none' -r
complete -c towline -n "__fish_towline_using_subcommand peers" -l limit -d 'Bound what is taken in a transfer, such as size=50G; may be repeated' -r
complete -c towline -n "__fish_towline_using_subcommand peers" -l json -d 'Write events to standard output, one JSON object a line' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand peers" -s q -l quiet -d 'Show only errors (and the command for the peer)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand peers" -l no-progress -d 'Show plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand peers" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand peers" -l config -d 'Config file [default: ~/.config/towline/config.toml]' -r -F
complete -c towline -n "__fish_towline_using_subcommand peers" -s v -l verbose -d 'List each file; -vv and -vvv show more'
complete -c towline -n "__fish_towline_using_subcommand peers" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand config" -l profile -d 'Take settings from [profile.NAME] in the config file' -r
complete -c towline -n "__fish_towline_using_subcommand config" -l json -d 'Write events to standard output, one JSON object a line' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand config" -s q -l quiet -d 'Show only errors (and the command for the peer)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand config" -l no-progress -d 'Show plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand config" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand config" -l config -d 'Config file [default: ~/.config/towline/config.toml]' -r -F
complete -c towline -n "__fish_towline_using_subcommand config" -s v -l verbose -d 'List each file; -vv and -vvv show more'
complete -c towline -n "__fish_towline_using_subcommand config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand receipt" -l manifest -d 'Lines of b3sum, with paths under the target directory' -r -F
complete -c towline -n "__fish_towline_using_subcommand receipt" -l fingerprint -d 'Fingerprint of the receiver that must have signed' -r
complete -c towline -n "__fish_towline_using_subcommand receipt" -l json -d 'Write events to standard output, one JSON object a line' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receipt" -s q -l quiet -d 'Show only errors (and the command for the peer)' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receipt" -l no-progress -d 'Show plain lines instead of bars' -r -f -a "true\t''
false\t''"
complete -c towline -n "__fish_towline_using_subcommand receipt" -l color -d 'When to use colours [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Even into a file'
never\t'No colours'"
complete -c towline -n "__fish_towline_using_subcommand receipt" -l config -d 'Config file [default: ~/.config/towline/config.toml]' -r -F
complete -c towline -n "__fish_towline_using_subcommand receipt" -s v -l verbose -d 'List each file; -vv and -vvv show more'
complete -c towline -n "__fish_towline_using_subcommand receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "send" -d 'Send files and directories'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "receive" -d 'Receive files and directories'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "bench" -d 'Measure speed with test data, and show what limited it'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "id" -d 'Show this machine\'s identity, or make a new one'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "peers" -d 'List, add, change or remove the machines that this one knows'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "config" -d 'Show each setting, its value and where it comes from'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "receipt" -d 'Check a receipt of `send --receipt`'
complete -c towline -n "__fish_towline_using_subcommand help; and not __fish_seen_subcommand_from send receive bench id peers config receipt help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
# One-time codes: 7-cro<TAB> becomes 7-crossover.
function __towline_codes
    set -l prefix (string match -r '^(?:[^/]*/)?[0-9]{1,4}-(?:[a-z]+-)*' -- (commandline -ct)); or return
    printf "$prefix%s\n" aardvark abandoned abbreviate abdomen abhorrence abiding abnormal abrasion absorbing abundant abyss academy accountant acetone achiness acid acoustics acquire acrobat actress acuteness aerosol aesthetic affidavit afloat afraid aftershave again agency aggressor aghast agitate agnostic agonizing agreeing aidless aimlessly ajar alarmclock albatross alchemy alfalfa algae aliens alkaline almanac alongside alphabet already also altitude aluminum always amazingly ambulance amendment amiable ammunition amnesty amoeba amplifier amuser anagram anchor android anesthesia angelfish animal anklet announcer anonymous answer antelope anxiety anyplace aorta apartment apnea apostrophe apple apricot aquamarine arachnid arbitrate ardently arena argument aristocrat armchair aromatic arrowhead arsonist artichoke asbestos ascend aseptic ashamed asinine asleep asocial asparagus astronaut asymmetric atlas atmosphere atom atrocious attic atypical auctioneer auditorium augmented auspicious automobile auxiliary avalanche avenue aviator avocado awareness awhile awkward awning awoke axially azalea babbling backpack bagpipe bakery balancing bamboo banana barracuda basket bathrobe bazooka blade blender blimp blouse blurred boatyard bobcat body bogusness bohemian boiler bonnet boots borough bossiness bottle bouquet boxlike breath briefcase broom brushes bubblegum buckle buddhist buffalo bullfrog bunny busboy buzzard cabin cactus cadillac cafeteria cage cahoots cajoling cakewalk calculator camera canister capsule carrot cashew cathedral caucasian caviar ceasefire cedar celery cement census ceramics chalkboard cheesecake chimney chlorine chopsticks chrome chute cilantro cinnamon circle cityscape civilian clay clergyman clipboard clock clubhouse coathanger cobweb coconut codeword coexistent coffeecake cognitive cohabitate collarbone computer confetti copier cornea cosmetics cotton couch coverless coyote coziness crawfish crewmember crib croissant crumble crystal cubical cucumber cuddly cufflink cuisine culprit cup curry cushion cuticle cybernetic cyclist cylinder cymbal cynicism cypress cytoplasm dachshund daffodil dagger dairy dalmatian dandelion dartboard dastardly datebook daughter dawn daytime dazzler dealer debris decal dedicate deepness defrost degree dehydrator deliverer democrat dentist deodorant depot deranged desktop detergent device dexterity diamond dibs dictionary diffuser digit dilated dimple dinnerware dioxide diploma directory dishcloth ditto dividers dizziness doctor dodge doll dominoes donut doorstep dorsal double downstairs dozed drainpipe dresser driftwood droppings drum dryer dubiously duckling duffel dugout dumpster duplex durable dustpan dutiful duvet dwarfism dwelling dwindling dynamite dyslexia eagerness earlobe easel eavesdrop ebook eccentric echoless eclipse ecosystem ecstasy edged editor educator eelworm eerie effects eggnog egomaniac ejection elastic elbow elderly elephant elfishly eliminator elk elliptical elongated elsewhere elusive elves emancipate embroidery emcee emerald emission emoticon emperor emulate enactment enchilada endorphin energy enforcer engine enhance enigmatic enjoyably enlarged enormous enquirer enrollment ensemble entryway enunciate envoy enzyme epidemic equipment erasable ergonomic erratic eruption escalator esophagus espresso essay estrogen etching eternal ethics etiquette eucalyptus eulogy euphemism euthanize evacuation evergreen evidence evolution exam excerpt exerciser exfoliate exhale exist exorcist explode exquisite exterior exuberant fabric factory faded failsafe falcon family fanfare fasten faucet favorite feasibly february federal feedback feigned feline femur fence ferret festival fettuccine feudalist feverish fiberglass fictitious fiddle figurine fillet finalist fiscally fixture flashlight fleshiness flight florist flypaper foamless focus foggy folksong fondue footpath fossil fountain fox fragment freeway fridge frosting fruit fryingpan gadget gainfully gallstone gamekeeper gangway garlic gaslight gathering gauntlet gearbox gecko gem generator geographer gerbil gesture getaway geyser ghoulishly gibberish giddiness giftshop gigabyte gimmick giraffe giveaway gizmo glasses gleeful glisten glove glucose glycerin gnarly gnomish goatskin goggles goldfish gong gooey gorgeous gosling gothic gourmet governor grape greyhound grill groundhog grumbling guacamole guerrilla guitar gullible gumdrop gurgling gusto gutless gymnast gynecology gyration habitat hacking haggard haiku halogen hamburger happiness hardhat hastily hatchling haughty hazelnut headband hedgehog hefty heinously helmet hemoglobin henceforth herbs hesitation hexagon hubcap huddling huff hugeness hullabaloo human hunter hurricane hushing hyacinth hybrid hydrant hygienist hypnotist ibuprofen icepack icing iconic identical idiocy idly igloo ignition iguana illuminate imaging imbecile imitator immigrant imprint iodine ionosphere ipad iphone iridescent irksome iron irrigation island isotope issueless italicize itemizer itinerary itunes ivory jabbering jackrabbit jaguar jailhouse jalapeno jamboree janitor jarring jasmine jaundice jawbreaker jaywalker jazz jealous jeep jelly jeopardize jersey jetski jezebel jiffy jigsaw jingling jobholder jockstrap jogging john joinable jokingly journal jovial joystick jubilant judiciary juggle juice jujitsu jukebox jumpiness junkyard juror justifying juvenile kabob kamikaze kangaroo karate kayak keepsake kennel kerosene ketchup khaki kickstand kilogram kimono kingdom kiosk kissing kite kleenex knapsack kneecap knickers koala krypton laboratory ladder lakefront lantern laptop laryngitis lasagna latch laundry lavender laxative lazybones lecturer leftover leggings leisure lemon length leopard leprechaun lettuce leukemia levers liability library licorice lifeboat lightbulb likewise lilac limousine lint lioness lipstick liquid listless litter liverwurst lizard llama luau lubricant lucidity ludicrous luggage lukewarm lullaby lumberjack lunchbox luridness luscious luxurious lyrics macaroni maestro magazine mahogany maimed majority makeover malformed mammal mango mapmaker marbles massager matchstick maverick maximum mayonnaise moaning mobilize moccasin modify moisture molecule momentum monastery moonshine mortuary mosquito motorcycle mousetrap movie mower mozzarella muckiness mudflow mugshot mule mummy mundane muppet mural mustard mutation myriad myspace myth nail namesake nanosecond napkin narrator nastiness natives nautically navigate nearest nebula nectar nefarious negotiator neither nemesis neoliberal nephew nervously nest netting neuron nevermore nextdoor nicotine niece nimbleness nintendo nirvana nuclear nugget nuisance nullify numbing nuptials nursery nutcracker nylon oasis oat obediently obituary object obliterate obnoxious observer obtain obvious occupation oceanic octopus ocular office oftentimes oiliness ointment older olympics omissible omnivorous oncoming onion onlooker onstage onward onyx oomph opaquely opera opium opossum opponent optical opulently oscillator osmosis ostrich otherwise ought outhouse ovation oven owlish oxford oxidize oxygen oyster ozone pacemaker padlock pageant pajamas palm pamphlet pantyhose paprika parakeet passport patio pauper pavement payphone pebble peculiarly pedometer pegboard pelican penguin peony pepperoni peroxide pesticide petroleum pewter pharmacy pheasant phonebook phrasing physician plank pledge plotted plug plywood pneumonia podiatrist poetic pogo poison poking policeman poncho popcorn porcupine postcard poultry powerboat prairie pretzel princess propeller prune pry pseudo publisher pucker pueblo pulley pumpkin punchbowl puppy purse pushup putt puzzle pyramid python quarters quesadilla quilt quote racoon radish ragweed railroad rampantly rancidity rarity raspberry ravishing rearrange rebuilt receipt reentry refinery register rehydrate reimburse rejoicing rekindle relic remote renovator reopen reporter request rerun reservoir retriever reunion revolver rewrite rhapsody rhetoric rhino rhubarb rhyme ribbon riches ridden rigidness rimmed riptide riskily ritzy riverboat roamer robe rocket romancer ropelike rotisserie roundtable royal rubber rudderless rugby ruined rulebook rummage running rupture rustproof sabotage sacrifice saddlebag saffron sainthood saltshaker samurai sandworm sapphire sardine sassy satchel sauna savage saxophone scarf scenario schoolbook scientist scooter scrapbook sculpture scythe secretary sedative segregator seismology selected semicolon senator septum sequence serpent sesame settler severely shack shelf shirt shovel shrimp shuttle shyness siamese sibling siesta silicon simmering singles sisterhood sitcom sixfold sizable skateboard skeleton skies skulk skylight slapping sled slingshot sloth slumbering smartphone smelliness smitten smokestack smudge snapshot sneezing sniff snowsuit snugness speakers sphinx spider splashing sponge sprout spur spyglass squirrel statue steamboat stingray stopwatch strawberry student stylus suave subway suction suds suffocate sugar suitcase sulphur superstore surfer sushi swan sweatshirt swimwear sword sycamore syllable symphony synagogue syringes systemize tablespoon taco tadpole taekwondo tagalong takeout tallness tamale tanned tapestry tarantula tastebud tattoo tavern thaw theater thimble thorn throat thumb thwarting tiara tidbit tiebreaker tiger timid tinsel tiptoeing tirade tissue tractor tree tripod trousers trucks tryout tubeless tuesday tugboat tulip tumbleweed tupperware turtle tusk tutorial tuxedo tweezers twins tyrannical ultrasound umbrella umpire unarmored uncle underwear unevenness unflavored ungloved unhinge unicycle unjustly unknown unlocking unmarked unnoticed unopened unpaved unquenched unroll unscrewing untied unusual unveiled unwrinkled unyielding unzip upbeat upcountry update upfront upgrade upholstery upkeep upload uppercut upright upstairs uptown upwind uranium urban urchin urethane urgent urologist username usher utensil utility utmost utopia utterance vacuum vagrancy valuables vanquished vaporizer varied vaseline vegetable vehicle velcro vendor vertebrae vestibule veteran vexingly vicinity videogame viewfinder vigilante village vinegar violin viperfish virus visor vitamins vivacious vixen vocalist vogue voicemail volleyball voucher voyage vulnerable waffle wagon wakeup walrus wanderer wasp water waving wheat whisper wholesaler wick widow wielder wifeless wikipedia wildcat windmill wipeout wired wishbone wizardry wobbliness wolverine womb woolworker workbasket wound wrangle wreckage wristwatch wrongdoing xerox xylophone yacht yahoo yard yearbook yesterday yiddish yield yodel yogurt yuppie zealot zebra zeppelin zestfully zigzagged zillion zipping zirconium zodiac zombie zookeeper zucchini
end
complete -c towline -n "__fish_towline_using_subcommand send" -a "(__towline_codes)"
complete -c towline -n "__fish_towline_using_subcommand send" -l to -r -a "(__towline_codes)"
complete -c towline -n "__fish_towline_using_subcommand receive" -a "(__towline_codes)"
complete -c towline -n "__fish_towline_using_subcommand receive" -l from -r -a "(__towline_codes)"
