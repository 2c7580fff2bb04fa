
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'towline' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'towline'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'towline' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Send files and directories')
            [CompletionResult]::new('receive', 'receive', [CompletionResultType]::ParameterValue, 'Receive files and directories')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Measure speed with test data, and show what limited it')
            [CompletionResult]::new('id', 'id', [CompletionResultType]::ParameterValue, 'Show this machine''s identity, or make a new one')
            [CompletionResult]::new('peers', 'peers', [CompletionResultType]::ParameterValue, 'List, add, change or remove the machines that this one knows')
            [CompletionResult]::new('config', 'config', [CompletionResultType]::ParameterValue, 'Show each setting, its value and where it comes from')
            [CompletionResult]::new('receipt', 'receipt', [CompletionResultType]::ParameterValue, 'Check a receipt of `send --receipt`')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'towline;send' {
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Peer to send to [default: wait for one receiver]')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Give up after this long without a peer [default: never]')
            [CompletionResult]::new('--background', '--background', [CompletionResultType]::ParameterName, 'Give way to other traffic on the link')
            [CompletionResult]::new('--remove-source', '--remove-source', [CompletionResultType]::ParameterName, 'Remove each source once it is on the receiver''s disk')
            [CompletionResult]::new('--delta', '--delta', [CompletionResultType]::ParameterName, 'Send only what the file to be replaced does not have [default: auto]')
            [CompletionResult]::new('--verify-disk', '--verify-disk', [CompletionResultType]::ParameterName, 'Read each file back from the disk before it gets its name')
            [CompletionResult]::new('--receipt', '--receipt', [CompletionResultType]::ParameterName, 'Keep a receipt, signed by the receiver')
            [CompletionResult]::new('--manifest', '--manifest', [CompletionResultType]::ParameterName, 'Write a line for `b3sum --check` for each file sent')
            [CompletionResult]::new('--name', '--name', [CompletionResultType]::ParameterName, 'Name that the receiver gives to standard input [default: stdin]')
            [CompletionResult]::new('--compress', '--compress', [CompletionResultType]::ParameterName, 'Compress what is sent: auto, off, or a level from 1 to 12 [default: off]')
            [CompletionResult]::new('--forever', '--forever', [CompletionResultType]::ParameterName, 'Stay, and serve known peers, several at once')
            [CompletionResult]::new('--tickets', '--tickets', [CompletionResultType]::ParameterName, 'With --forever: also let in whoever has the ticket')
            [CompletionResult]::new('--transfers', '--transfers', [CompletionResultType]::ParameterName, 'With --forever: maximum transfers at once [default: 4]')
            [CompletionResult]::new('--grace', '--grace', [CompletionResultType]::ParameterName, 'With --forever: time for running transfers to end after a signal [default: 30s]')
            [CompletionResult]::new('--exists', '--exists', [CompletionResultType]::ParameterName, 'Existing files: refuse, skip, rename, replace [default: as the receiving side has it]')
            [CompletionResult]::new('--delete', '--delete', [CompletionResultType]::ParameterName, 'Delete at the receiver what is not in the source')
            [CompletionResult]::new('--max-delete', '--max-delete', [CompletionResultType]::ParameterName, 'With --delete: delete nothing if there is more than this to delete')
            [CompletionResult]::new('--backup-dir', '--backup-dir', [CompletionResultType]::ParameterName, 'With --delete: move it to this directory under the target instead')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Change nothing, and list what would happen')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Change nothing, and list what would happen')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Compare contents by BLAKE3, although size and time agree')
            [CompletionResult]::new('--checksum', '--checksum', [CompletionResultType]::ParameterName, 'Compare contents by BLAKE3, although size and time agree')
            [CompletionResult]::new('--atomic', '--atomic', [CompletionResultType]::ParameterName, 'Give all files their names together at the end, or none; only with dir: and ssh:')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Copy towline by ssh: to a machine that has none, without asking')
            [CompletionResult]::new('--exclude', '--exclude', [CompletionResultType]::ParameterName, 'Leave out what matches; may be repeated')
            [CompletionResult]::new('--include', '--include', [CompletionResultType]::ParameterName, 'Send what matches, although --exclude matches too; may be repeated')
            [CompletionResult]::new('--exclude-from', '--exclude-from', [CompletionResultType]::ParameterName, 'Leave out what the lines of FILE match, as in a .gitignore; may be repeated')
            [CompletionResult]::new('--ignore-files', '--ignore-files', [CompletionResultType]::ParameterName, 'Honour the .gitignore and .towlineignore of each directory')
            [CompletionResult]::new('--files-from', '--files-from', [CompletionResultType]::ParameterName, 'Send only the paths in FILE, a line each, relative to the one SOURCE')
            [CompletionResult]::new('-0', '-0', [CompletionResultType]::ParameterName, 'Paths of --files-from end with NUL instead of a line feed')
            [CompletionResult]::new('--null', '--null', [CompletionResultType]::ParameterName, 'Paths of --files-from end with NUL instead of a line feed')
            [CompletionResult]::new('--one-file-system', '--one-file-system', [CompletionResultType]::ParameterName, 'Leave out what is on other file systems than SOURCE')
            [CompletionResult]::new('--min-size', '--min-size', [CompletionResultType]::ParameterName, 'Leave out smaller files')
            [CompletionResult]::new('--max-size', '--max-size', [CompletionResultType]::ParameterName, 'Leave out larger files')
            [CompletionResult]::new('--contents', '--contents', [CompletionResultType]::ParameterName, 'Send what is in the directory SOURCE, instead of the directory')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Keep everything: --owner --special-bits --acls --xattrs')
            [CompletionResult]::new('--archive', '--archive', [CompletionResultType]::ParameterName, 'Keep everything: --owner --special-bits --acls --xattrs')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Keep owner and group, by name where the receiver has one of that name')
            [CompletionResult]::new('--owner', '--owner', [CompletionResultType]::ParameterName, 'Keep owner and group, by name where the receiver has one of that name')
            [CompletionResult]::new('--numeric-ids', '--numeric-ids', [CompletionResultType]::ParameterName, 'Keep owners by number, whatever their names are at the receiver')
            [CompletionResult]::new('--special-bits', '--special-bits', [CompletionResultType]::ParameterName, 'Keep set-user-id, set-group-id and sticky bits')
            [CompletionResult]::new('-A', '-A ', [CompletionResultType]::ParameterName, 'Keep POSIX ACLs')
            [CompletionResult]::new('--acls', '--acls', [CompletionResultType]::ParameterName, 'Keep POSIX ACLs')
            [CompletionResult]::new('-X', '-X ', [CompletionResultType]::ParameterName, 'Keep extended attributes: user.*, security.* and trusted.*')
            [CompletionResult]::new('--xattrs', '--xattrs', [CompletionResultType]::ParameterName, 'Keep extended attributes: user.*, security.* and trusted.*')
            [CompletionResult]::new('--allow', '--allow', [CompletionResultType]::ParameterName, 'Let in this known peer without a ticket; may be repeated')
            [CompletionResult]::new('--ca', '--ca', [CompletionResultType]::ParameterName, 'Trust the certificates of this authority')
            [CompletionResult]::new('--cert', '--cert', [CompletionResultType]::ParameterName, 'With --ca: the certificate of this side, and those between it and the authority')
            [CompletionResult]::new('--key', '--key', [CompletionResultType]::ParameterName, 'With --ca: the key of --cert')
            [CompletionResult]::new('--peer-name', '--peer-name', [CompletionResultType]::ParameterName, 'With --ca: name that the certificate of the peer must be for')
            [CompletionResult]::new('--words', '--words', [CompletionResultType]::ParameterName, 'Words of the one-time code that this side prints [default: 2]')
            [CompletionResult]::new('--uses', '--uses', [CompletionResultType]::ParameterName, 'Transfers that the ticket serves, one after the other [default: 1]')
            [CompletionResult]::new('--expires', '--expires', [CompletionResultType]::ParameterName, 'Replace the ticket and the code after this long [default: never]')
            [CompletionResult]::new('--qr', '--qr', [CompletionResultType]::ParameterName, 'Draw the ticket as a QR code: auto (on a terminal), always or never')
            [CompletionResult]::new('--verify', '--verify', [CompletionResultType]::ParameterName, 'Compare four words with the other side before anything is sent')
            [CompletionResult]::new('--remember', '--remember', [CompletionResultType]::ParameterName, 'Keep the peer as a known peer under this name')
            [CompletionResult]::new('--ssh', '--ssh', [CompletionResultType]::ParameterName, 'Program that connects, with its arguments [default: ssh]')
            [CompletionResult]::new('--no-install', '--no-install', [CompletionResultType]::ParameterName, 'Copy nothing to a machine that has no towline')
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address to listen on [default: port 4750]')
            [CompletionResult]::new('--port-range', '--port-range', [CompletionResultType]::ParameterName, 'UDP ports to listen on, instead of --listen')
            [CompletionResult]::new('--fingerprint', '--fingerprint', [CompletionResultType]::ParameterName, 'Fingerprint of the peer; run `towline id` there')
            [CompletionResult]::new('--bwlimit', '--bwlimit', [CompletionResultType]::ParameterName, 'Maximum bytes a second, such as 2M [default: off]')
            [CompletionResult]::new('--memory', '--memory', [CompletionResultType]::ParameterName, 'Memory for the transfer, at least 8M and 8 times --chunk-size [default: 64M]')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Maximum parcels in flight [default: as many as memory allows]')
            [CompletionResult]::new('--connections', '--connections', [CompletionResultType]::ParameterName, 'QUIC connections to the peer [default: what the peer asks for, or 1]')
            [CompletionResult]::new('--chunk-size', '--chunk-size', [CompletionResultType]::ParameterName, 'Chunk size, a power of two from 1M to 64M [default: 1M]')
            [CompletionResult]::new('--congestion', '--congestion', [CompletionResultType]::ParameterName, 'Congestion control [default: auto]')
            [CompletionResult]::new('--no-path-memory', '--no-path-memory', [CompletionResultType]::ParameterName, 'Do not remember what the network path carries: each transfer measures it anew')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Give up after this long without progress, such as 30s or 2m [default: 30s]')
            [CompletionResult]::new('--retry', '--retry', [CompletionResultType]::ParameterName, 'Reconnect for this long after the connection is lost; 0 or forever [default: 60s]')
            [CompletionResult]::new('--disk-timeout', '--disk-timeout', [CompletionResultType]::ParameterName, 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]')
            [CompletionResult]::new('--no-fsync', '--no-fsync', [CompletionResultType]::ParameterName, 'Do not sync to disk: faster, but a crash of the machine can lose files that were reported as done')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to standard output, one JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Take settings from [profile.NAME] in the config file')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: ~/.config/towline/config.toml]')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Accepted and ignored: directories are always sent with everything in them')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;receive' {
            [CompletionResult]::new('--from', '--from', [CompletionResultType]::ParameterName, 'Peer to receive from [default: wait for one sender]')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Give up after this long without a peer [default: never]')
            [CompletionResult]::new('--into', '--into', [CompletionResultType]::ParameterName, 'Directory, or - for standard output [default: .]')
            [CompletionResult]::new('--exists', '--exists', [CompletionResultType]::ParameterName, 'Existing files: refuse (default), skip, replace, rename')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Compare contents by BLAKE3, although size and time agree')
            [CompletionResult]::new('--checksum', '--checksum', [CompletionResultType]::ParameterName, 'Compare contents by BLAKE3, although size and time agree')
            [CompletionResult]::new('--allow-delete', '--allow-delete', [CompletionResultType]::ParameterName, 'Let the sender delete what it does not send (send --delete)')
            [CompletionResult]::new('--atomic', '--atomic', [CompletionResultType]::ParameterName, 'Give all files their names together at the end, or none')
            [CompletionResult]::new('--verify-disk', '--verify-disk', [CompletionResultType]::ParameterName, 'Read each file back from the disk before it gets its name')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Receive without asking')
            [CompletionResult]::new('--manifest', '--manifest', [CompletionResultType]::ParameterName, 'Write a line for `b3sum --check` for each file received')
            [CompletionResult]::new('--limit', '--limit', [CompletionResultType]::ParameterName, 'Bound what is taken in a transfer, such as size=50G; may be repeated')
            [CompletionResult]::new('--list-partial', '--list-partial', [CompletionResultType]::ParameterName, 'List what interrupted transfers left in DIR')
            [CompletionResult]::new('--discard-partial', '--discard-partial', [CompletionResultType]::ParameterName, 'Remove what interrupted transfers left in DIR')
            [CompletionResult]::new('--exec', '--exec', [CompletionResultType]::ParameterName, 'Run PROGRAM after each transfer that is complete')
            [CompletionResult]::new('--exec-timeout', '--exec-timeout', [CompletionResultType]::ParameterName, 'Kill the program of --exec after this long [default: 1h]')
            [CompletionResult]::new('--forever', '--forever', [CompletionResultType]::ParameterName, 'Stay, and serve known peers, several at once')
            [CompletionResult]::new('--tickets', '--tickets', [CompletionResultType]::ParameterName, 'With --forever: also let in whoever has the ticket')
            [CompletionResult]::new('--transfers', '--transfers', [CompletionResultType]::ParameterName, 'With --forever: maximum transfers at once [default: 4]')
            [CompletionResult]::new('--grace', '--grace', [CompletionResultType]::ParameterName, 'With --forever: time for running transfers to end after a signal [default: 30s]')
            [CompletionResult]::new('--allow', '--allow', [CompletionResultType]::ParameterName, 'Let in this known peer without a ticket; may be repeated')
            [CompletionResult]::new('--ca', '--ca', [CompletionResultType]::ParameterName, 'Trust the certificates of this authority')
            [CompletionResult]::new('--cert', '--cert', [CompletionResultType]::ParameterName, 'With --ca: the certificate of this side, and those between it and the authority')
            [CompletionResult]::new('--key', '--key', [CompletionResultType]::ParameterName, 'With --ca: the key of --cert')
            [CompletionResult]::new('--peer-name', '--peer-name', [CompletionResultType]::ParameterName, 'With --ca: name that the certificate of the peer must be for')
            [CompletionResult]::new('--words', '--words', [CompletionResultType]::ParameterName, 'Words of the one-time code that this side prints [default: 2]')
            [CompletionResult]::new('--uses', '--uses', [CompletionResultType]::ParameterName, 'Transfers that the ticket serves, one after the other [default: 1]')
            [CompletionResult]::new('--expires', '--expires', [CompletionResultType]::ParameterName, 'Replace the ticket and the code after this long [default: never]')
            [CompletionResult]::new('--qr', '--qr', [CompletionResultType]::ParameterName, 'Draw the ticket as a QR code: auto (on a terminal), always or never')
            [CompletionResult]::new('--verify', '--verify', [CompletionResultType]::ParameterName, 'Compare four words with the other side before anything is sent')
            [CompletionResult]::new('--remember', '--remember', [CompletionResultType]::ParameterName, 'Keep the peer as a known peer under this name')
            [CompletionResult]::new('--ssh', '--ssh', [CompletionResultType]::ParameterName, 'Program that connects, with its arguments [default: ssh]')
            [CompletionResult]::new('--no-install', '--no-install', [CompletionResultType]::ParameterName, 'Copy nothing to a machine that has no towline')
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address to listen on [default: port 4750]')
            [CompletionResult]::new('--port-range', '--port-range', [CompletionResultType]::ParameterName, 'UDP ports to listen on, instead of --listen')
            [CompletionResult]::new('--fingerprint', '--fingerprint', [CompletionResultType]::ParameterName, 'Fingerprint of the peer; run `towline id` there')
            [CompletionResult]::new('--bwlimit', '--bwlimit', [CompletionResultType]::ParameterName, 'Maximum bytes a second, such as 2M [default: off]')
            [CompletionResult]::new('--memory', '--memory', [CompletionResultType]::ParameterName, 'Memory for the transfer, at least 8M and 8 times --chunk-size [default: 64M]')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Maximum parcels in flight [default: as many as memory allows]')
            [CompletionResult]::new('--connections', '--connections', [CompletionResultType]::ParameterName, 'QUIC connections to the peer [default: what the peer asks for, or 1]')
            [CompletionResult]::new('--chunk-size', '--chunk-size', [CompletionResultType]::ParameterName, 'Chunk size, a power of two from 1M to 64M [default: 1M]')
            [CompletionResult]::new('--congestion', '--congestion', [CompletionResultType]::ParameterName, 'Congestion control [default: auto]')
            [CompletionResult]::new('--no-path-memory', '--no-path-memory', [CompletionResultType]::ParameterName, 'Do not remember what the network path carries: each transfer measures it anew')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Give up after this long without progress, such as 30s or 2m [default: 30s]')
            [CompletionResult]::new('--retry', '--retry', [CompletionResultType]::ParameterName, 'Reconnect for this long after the connection is lost; 0 or forever [default: 60s]')
            [CompletionResult]::new('--disk-timeout', '--disk-timeout', [CompletionResultType]::ParameterName, 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]')
            [CompletionResult]::new('--no-fsync', '--no-fsync', [CompletionResultType]::ParameterName, 'Do not sync to disk: faster, but a crash of the machine can lose files that were reported as done')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to standard output, one JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Take settings from [profile.NAME] in the config file')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: ~/.config/towline/config.toml]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;bench' {
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Peer to measure with; it runs `towline bench --wait`')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Wait for another machine to run one benchmark')
            [CompletionResult]::new('--size', '--size', [CompletionResultType]::ParameterName, 'Bytes to send [default: 4G; 512M with --to, --disk]')
            [CompletionResult]::new('--files', '--files', [CompletionResultType]::ParameterName, 'Send N files of 4 KiB instead of one large file')
            [CompletionResult]::new('--disk', '--disk', [CompletionResultType]::ParameterName, 'Use the disk of DIR, and remove the files at the end')
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address to listen on [default: port 4750]')
            [CompletionResult]::new('--port-range', '--port-range', [CompletionResultType]::ParameterName, 'UDP ports to listen on, instead of --listen')
            [CompletionResult]::new('--fingerprint', '--fingerprint', [CompletionResultType]::ParameterName, 'Fingerprint of the peer; run `towline id` there')
            [CompletionResult]::new('--bwlimit', '--bwlimit', [CompletionResultType]::ParameterName, 'Maximum bytes a second, such as 2M [default: off]')
            [CompletionResult]::new('--memory', '--memory', [CompletionResultType]::ParameterName, 'Memory for the transfer, at least 8M and 8 times --chunk-size [default: 64M]')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Maximum parcels in flight [default: as many as memory allows]')
            [CompletionResult]::new('--connections', '--connections', [CompletionResultType]::ParameterName, 'QUIC connections to the peer [default: what the peer asks for, or 1]')
            [CompletionResult]::new('--chunk-size', '--chunk-size', [CompletionResultType]::ParameterName, 'Chunk size, a power of two from 1M to 64M [default: 1M]')
            [CompletionResult]::new('--congestion', '--congestion', [CompletionResultType]::ParameterName, 'Congestion control [default: auto]')
            [CompletionResult]::new('--no-path-memory', '--no-path-memory', [CompletionResultType]::ParameterName, 'Do not remember what the network path carries: each transfer measures it anew')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Give up after this long without progress, such as 30s or 2m [default: 30s]')
            [CompletionResult]::new('--retry', '--retry', [CompletionResultType]::ParameterName, 'Reconnect for this long after the connection is lost; 0 or forever [default: 60s]')
            [CompletionResult]::new('--disk-timeout', '--disk-timeout', [CompletionResultType]::ParameterName, 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]')
            [CompletionResult]::new('--no-fsync', '--no-fsync', [CompletionResultType]::ParameterName, 'Do not sync to disk: faster, but a crash of the machine can lose files that were reported as done')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to standard output, one JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: ~/.config/towline/config.toml]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;id' {
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to standard output, one JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: ~/.config/towline/config.toml]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;peers' {
            [CompletionResult]::new('--may', '--may', [CompletionResultType]::ParameterName, 'What it may do here, such as send, or none')
            [CompletionResult]::new('--dir', '--dir', [CompletionResultType]::ParameterName, 'Where its files go at a receiver that stays')
            [CompletionResult]::new('--policies', '--policies', [CompletionResultType]::ParameterName, 'What it may do to existing files there, or none')
            [CompletionResult]::new('--quota', '--quota', [CompletionResultType]::ParameterName, 'Bytes that it may fill there, such as 100G, or none')
            [CompletionResult]::new('--limit', '--limit', [CompletionResultType]::ParameterName, 'Bound what is taken in a transfer, such as size=50G; may be repeated')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to standard output, one JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: ~/.config/towline/config.toml]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;config' {
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Take settings from [profile.NAME] in the config file')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to standard output, one JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: ~/.config/towline/config.toml]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;receipt' {
            [CompletionResult]::new('--manifest', '--manifest', [CompletionResultType]::ParameterName, 'Lines of b3sum, with paths under the target directory')
            [CompletionResult]::new('--fingerprint', '--fingerprint', [CompletionResultType]::ParameterName, 'Fingerprint of the receiver that must have signed')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Write events to standard output, one JSON object a line')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show only errors (and the command for the peer)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: ~/.config/towline/config.toml]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'List each file; -vv and -vvv show more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;help' {
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Send files and directories')
            [CompletionResult]::new('receive', 'receive', [CompletionResultType]::ParameterValue, 'Receive files and directories')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Measure speed with test data, and show what limited it')
            [CompletionResult]::new('id', 'id', [CompletionResultType]::ParameterValue, 'Show this machine''s identity, or make a new one')
            [CompletionResult]::new('peers', 'peers', [CompletionResultType]::ParameterValue, 'List, add, change or remove the machines that this one knows')
            [CompletionResult]::new('config', 'config', [CompletionResultType]::ParameterValue, 'Show each setting, its value and where it comes from')
            [CompletionResult]::new('receipt', 'receipt', [CompletionResultType]::ParameterValue, 'Check a receipt of `send --receipt`')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'towline;help;send' {
            break
        }
        'towline;help;receive' {
            break
        }
        'towline;help;bench' {
            break
        }
        'towline;help;id' {
            break
        }
        'towline;help;peers' {
            break
        }
        'towline;help;config' {
            break
        }
        'towline;help;receipt' {
            break
        }
        'towline;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
