
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
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Sends files and directories')
            [CompletionResult]::new('receive', 'receive', [CompletionResultType]::ParameterValue, 'Receives files and directories')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Measures the real protocol, without disks or with them, and says what limited it')
            [CompletionResult]::new('id', 'id', [CompletionResultType]::ParameterValue, 'Shows the identity of this machine, or makes a new one')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'towline;send' {
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Whom to send to; without it, waits for one receiver')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Give up when nobody has come after this long, such as 5m [default: wait for ever]')
            [CompletionResult]::new('--background', '--background', [CompletionResultType]::ParameterName, 'Makes way for other traffic on the link')
            [CompletionResult]::new('--manifest', '--manifest', [CompletionResultType]::ParameterName, 'Writes a line for `b3sum --check` for each file that was sent')
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address to wait at [default: port 4750 of every address, or a free port]')
            [CompletionResult]::new('--fingerprint', '--fingerprint', [CompletionResultType]::ParameterName, 'Fingerprint of the other side')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Parcels on the way at once, at most [default: as memory allows]')
            [CompletionResult]::new('--connections', '--connections', [CompletionResultType]::ParameterName, 'QUIC connections between the two machines [default: what the other side asks for, or 1]')
            [CompletionResult]::new('--chunk-size', '--chunk-size', [CompletionResultType]::ParameterName, 'Bytes of a chunk, a power of two from 1M to 64M [default: 1M]')
            [CompletionResult]::new('--bwlimit', '--bwlimit', [CompletionResultType]::ParameterName, 'Bytes a second that may travel, perhaps by the time of the day [default: off]')
            [CompletionResult]::new('--memory', '--memory', [CompletionResultType]::ParameterName, 'Memory that the transfer may use, at least 8M and eight chunks [default: 64M]')
            [CompletionResult]::new('--congestion', '--congestion', [CompletionResultType]::ParameterName, 'Congestion control [default: auto]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Gives up when nothing was acked for so long, such as 30s or 2m [default: 30s]')
            [CompletionResult]::new('--disk-timeout', '--disk-timeout', [CompletionResultType]::ParameterName, 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]')
            [CompletionResult]::new('--no-fsync', '--no-fsync', [CompletionResultType]::ParameterName, 'Does not sync to disk: faster, but what was called done can be lost when the machine stops')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Writes one JSON object per event to standard output, and nothing but errors to standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Shows plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: towline/config.toml in the user''s configuration directory]')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Taken and without effect: directories are always sent with all that is in them')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;receive' {
            [CompletionResult]::new('--from', '--from', [CompletionResultType]::ParameterName, 'Whom to fetch from; without it, waits for one sender')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Give up when nobody has come after this long, such as 5m [default: wait for ever]')
            [CompletionResult]::new('--into', '--into', [CompletionResultType]::ParameterName, 'Directory to put files into [default: .]')
            [CompletionResult]::new('--exists', '--exists', [CompletionResultType]::ParameterName, 'What to do when something else has the name already [default: refuse]')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Takes what is offered without asking')
            [CompletionResult]::new('--manifest', '--manifest', [CompletionResultType]::ParameterName, 'Writes a line for `b3sum --check` for each file that was received')
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address to wait at [default: port 4750 of every address, or a free port]')
            [CompletionResult]::new('--fingerprint', '--fingerprint', [CompletionResultType]::ParameterName, 'Fingerprint of the other side')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Parcels on the way at once, at most [default: as memory allows]')
            [CompletionResult]::new('--connections', '--connections', [CompletionResultType]::ParameterName, 'QUIC connections between the two machines [default: what the other side asks for, or 1]')
            [CompletionResult]::new('--chunk-size', '--chunk-size', [CompletionResultType]::ParameterName, 'Bytes of a chunk, a power of two from 1M to 64M [default: 1M]')
            [CompletionResult]::new('--bwlimit', '--bwlimit', [CompletionResultType]::ParameterName, 'Bytes a second that may travel, perhaps by the time of the day [default: off]')
            [CompletionResult]::new('--memory', '--memory', [CompletionResultType]::ParameterName, 'Memory that the transfer may use, at least 8M and eight chunks [default: 64M]')
            [CompletionResult]::new('--congestion', '--congestion', [CompletionResultType]::ParameterName, 'Congestion control [default: auto]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Gives up when nothing was acked for so long, such as 30s or 2m [default: 30s]')
            [CompletionResult]::new('--disk-timeout', '--disk-timeout', [CompletionResultType]::ParameterName, 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]')
            [CompletionResult]::new('--no-fsync', '--no-fsync', [CompletionResultType]::ParameterName, 'Does not sync to disk: faster, but what was called done can be lost when the machine stops')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Writes one JSON object per event to standard output, and nothing but errors to standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Shows plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: towline/config.toml in the user''s configuration directory]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;bench' {
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Whom to measure with: a machine where `towline bench --wait` waits')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Waits for one bench of another machine and is its receiving side; --listen says so too')
            [CompletionResult]::new('--size', '--size', [CompletionResultType]::ParameterName, 'Bytes of the one file to send [default: 4G, or 512M with --to or --disk]')
            [CompletionResult]::new('--files', '--files', [CompletionResultType]::ParameterName, 'Sends so many files of 4 KiB instead of one large one')
            [CompletionResult]::new('--disk', '--disk', [CompletionResultType]::ParameterName, 'Has the files of this side on the disk of DIR, in a directory that is removed at the end')
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address to wait at [default: port 4750 of every address, or a free port]')
            [CompletionResult]::new('--fingerprint', '--fingerprint', [CompletionResultType]::ParameterName, 'Fingerprint of the other side')
            [CompletionResult]::new('--streams', '--streams', [CompletionResultType]::ParameterName, 'Parcels on the way at once, at most [default: as memory allows]')
            [CompletionResult]::new('--connections', '--connections', [CompletionResultType]::ParameterName, 'QUIC connections between the two machines [default: what the other side asks for, or 1]')
            [CompletionResult]::new('--chunk-size', '--chunk-size', [CompletionResultType]::ParameterName, 'Bytes of a chunk, a power of two from 1M to 64M [default: 1M]')
            [CompletionResult]::new('--bwlimit', '--bwlimit', [CompletionResultType]::ParameterName, 'Bytes a second that may travel, perhaps by the time of the day [default: off]')
            [CompletionResult]::new('--memory', '--memory', [CompletionResultType]::ParameterName, 'Memory that the transfer may use, at least 8M and eight chunks [default: 64M]')
            [CompletionResult]::new('--congestion', '--congestion', [CompletionResultType]::ParameterName, 'Congestion control [default: auto]')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Gives up when nothing was acked for so long, such as 30s or 2m [default: 30s]')
            [CompletionResult]::new('--disk-timeout', '--disk-timeout', [CompletionResultType]::ParameterName, 'Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]')
            [CompletionResult]::new('--no-fsync', '--no-fsync', [CompletionResultType]::ParameterName, 'Does not sync to disk: faster, but what was called done can be lost when the machine stops')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Writes one JSON object per event to standard output, and nothing but errors to standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Shows plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: towline/config.toml in the user''s configuration directory]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;id' {
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Writes one JSON object per event to standard output, and nothing but errors to standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Shows nothing but errors (and, when waiting, the command for the other machine)')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Shows plain lines instead of bars')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours [default: auto]')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Config file [default: towline/config.toml in the user''s configuration directory]')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'towline;help' {
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Sends files and directories')
            [CompletionResult]::new('receive', 'receive', [CompletionResultType]::ParameterValue, 'Receives files and directories')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Measures the real protocol, without disks or with them, and says what limited it')
            [CompletionResult]::new('id', 'id', [CompletionResultType]::ParameterValue, 'Shows the identity of this machine, or makes a new one')
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
        'towline;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
