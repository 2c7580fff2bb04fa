//! Texts of the help and the man pages that belong to no flag.

/// The exit codes, one a line: code, two spaces, meaning.
pub const EXIT_STATUS: &str = "\
0    done: durable and verified
1    an error without a code of its own, such as a bug
2    usage
3    peer not reached: name not found, refused, no answer on UDP, or --wait expired
4    authentication failed: wrong fingerprint, ticket, code or certificate
5    refused by the receiver: target exists, name not allowed
6    storage: disk full, permission, I/O error
7    the source changed or could not be read
8    verification failed
9    interrupted or connection lost: run the same command again
10   done, except for the entries that are listed
130  stopped by SIGINT
143  stopped by SIGTERM";

/// The variables that belong to no flag: name, two spaces, meaning.
pub const VARIABLES: &str = "\
TOWLINE_IDENTITY  file that holds this machine's key
NO_COLOR          no colours, when set and not empty";

/// How a variable is named after its flag.
pub const VARIABLES_OF_FLAGS: &str = "\
Every long flag has a variable: --no-fsync is TOWLINE_NO_FSYNC. Flags override
variables, which override the config file. For a flag without a
value, set the variable to 1 or 0.";

/// The files that the program reads, for the man pages.
pub const FILES: &str = "\
~/.config/towline/identity.pem
    This machine's key and certificate, made when first needed.
    TOWLINE_IDENTITY names another file. If it cannot be created, a ticket
    works with a key for this run.
~/.config/towline/config.toml
    Settings in TOML. Each long flag without its dashes is a key, except for
    --config, --profile, --list-partial, --discard-partial, --remember, --name,
    --may, --dir, --policies and --quota:
    memory = \"128M\"
    no-fsync = true
    [profile.nightly]              # for send --profile nightly
    sources = [\"/srv\", \"/home\"]
    to = \"backuphost\"
    exclude = [\"*.tmp\"]
    Flags override variables, which override the profile, which overrides the
    rest of this file. An unknown key is an error. `towline config` shows the
    result.
~/.config/towline/peers.toml
    The machines that this one knows. It is made when first needed, with mode
    0600; comments survive changes by `towline peers` and --remember.
    [laptop]
    fingerprint = \"…\"             # what `towline id` prints there
    addresses = [\"192.0.2.7\"]     # HOST[:PORT] where it waits, best first
    may = [\"send\", \"receive\"]     # what it may do when it dials this machine
    into = \"laptop\"               # where its files go with --forever
    exists = [\"rename\"]           # what it may do to existing files then
    quota = \"100G\"                # bytes that it may fill there
    limits = [\"entries=1000\"]     # bounds of a transfer, as --limit has them
    Only the fingerprint has to be there. An unknown key is an error.
.towline/ in the target directory
    Incomplete files. It is removed at the end, unless some of them can be
    resumed.";

/// The example of `towline -h`.
pub const EXAMPLE: &str = "\
Example:
  towline receive --into inbox             # prints the command for the sender
  towline send photos/ --to 7-octopus-lantern";
/// The example of `towline send -h`.
pub const EXAMPLE_SEND: &str = "Example: towline send photos/ --to 7-octopus-lantern";
/// The example of `towline receive -h`.
pub const EXAMPLE_RECEIVE: &str = "Example: towline receive --into inbox";
/// The example of `towline bench -h`.
pub const EXAMPLE_BENCH: &str = "Example: towline bench --disk /srv --size 2G";
/// The example of `towline id -h`.
pub const EXAMPLE_ID: &str = "Example: towline id";
/// The example of `towline peers -h`.
pub const EXAMPLE_PEERS: &str = "Example: towline peers";

/// The example of `towline receipt -h`.
pub const EXAMPLE_RECEIPT: &str = "Example: towline receipt backup.receipt --manifest sums.txt";

/// The example of `towline config -h`.
pub const EXAMPLE_CONFIG: &str = "Example: towline config --profile nightly";
/// Examples of `towline config`.
pub const EXAMPLES_CONFIG: &str = "\
towline config
    Show all settings, and where each comes from.
towline config --profile nightly
    The same, as `towline send --profile nightly` would have them.
towline config --json | jq 'select(.from != \"default\")'
    Only those that were set, for a script.";

/// Examples of `towline send`.
pub const EXAMPLES_SEND: &str = "\
towline send photos/
    Wait for one receiver and print the command to run there.
towline send disk.img --to 7-octopus-lantern
    Send to the machine on the local network that waits with this code.
towline send disk.img --to tl1…
    Send to a machine where `towline receive` waits.
towline send disk.img --to @ticket.txt
    The same, with the ticket in a file, so that it is in no process list.
towline send disk.img --to tl1… --remember laptop
    The same, and keep the receiver as a known peer.
towline send disk.img --to laptop
    Send to a known peer where `towline receive --allow NAME` waits.
towline send --forever /srv/releases
    Stay, and offer a directory to all known peers that may receive.
towline send photos/ --to ssh:me@host:pictures
    Send to a machine where ssh starts the other side.
towline send photos/ --to laptop --exists replace --delete --dry-run
    List what would make the copy there the same as the one here.
pg_dump db | towline send - --name db.sql --to backup
    Send what another program writes, as the file db.sql.
towline send Cargo.lock --to dir:/tmp/inbox
    Copy to a directory of this machine, through the whole protocol.";

/// Examples of `towline receive`.
pub const EXAMPLES_RECEIVE: &str = "\
towline receive --into inbox
    Wait for one sender and print the command to run there.
TOWLINE_FROM=tl1… towline receive --exists rename
    Receive from a machine where `towline send` waits. A file whose name is
    taken gets another name.
towline receive --from ssh:me@host:pictures/photos --into inbox
    Receive from a machine where ssh starts the other side.
towline receive --from tl1… --into - | tar x
    Hand the one file of the transfer to another program.
towline receive --allow laptop --into inbox
    Wait for the known peer laptop, or for whoever has the ticket.
towline receive --from tl1… --manifest sums.txt && b3sum --check sums.txt
    Check the received files once more.
towline receive --forever --into /srv/backup
    Stay, and receive from all known peers that may send.
towline receive --into inbox --discard-partial 7d
    Remove what transfers that were interrupted a week ago have left.";

/// Examples of `towline bench`.
pub const EXAMPLES_BENCH: &str = "\
towline bench
    Measure this machine as both sides, without disks.
towline bench --disk /srv --size 2G
    The same from disk to disk, on the file system of /srv.
towline bench --wait
    Wait for one bench and print the command to run there.
towline bench --to tl1… --size 1G
    Measure the path to a machine where `towline bench --wait` waits.";

/// Examples of `towline id`.
pub const EXAMPLES_ID: &str = "\
towline id
    Print the fingerprint that other machines name with --fingerprint.";

/// Examples of `towline receipt`.
pub const EXAMPLES_RECEIPT: &str = "\
towline send backup/ --to nas --receipt backup.receipt --manifest sums.txt
    Send, and keep what the receiver has signed.
towline receipt backup.receipt --manifest sums.txt --fingerprint FINGERPRINT
    Check that this receiver has signed for these files.";

/// Examples of `towline peers`.
pub const EXAMPLES_PEERS: &str = "\
towline peers
    List the known peers.
towline peers add laptop FINGERPRINT 192.0.2.7 --may send
    Let laptop send to this machine, and dial it at 192.0.2.7 by its name.
    `towline id` on laptop prints the fingerprint.
towline peers remove laptop
    Forget it.";

/// Examples of all commands.
pub const EXAMPLES: [&str; 6] =
    [EXAMPLES_SEND, EXAMPLES_RECEIVE, EXAMPLES_BENCH, EXAMPLES_ID, EXAMPLES_PEERS, EXAMPLES_RECEIPT];

/// The text below the flags in `--help`.
pub fn after(examples: &[&str]) -> String {
    let sections = [
        ("Environment", [VARIABLES_OF_FLAGS, VARIABLES].join("\n")),
        ("Exit status", EXIT_STATUS.to_owned()),
        ("Examples", examples.join("\n")),
    ];
    let section = |(title, text): (&str, String)| format!("{title}:\n{}", indented(&text));
    sections.map(section).join("\n\n")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
