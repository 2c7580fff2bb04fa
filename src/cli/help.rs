//! Texts for the help and the man pages that belong to no flag.

/// The exit codes, one a line: code, two spaces, meaning. For the help and the man pages.
pub const EXIT_STATUS: &str = "\
0    done: durable and verified
1    an error that has no code of its own (a bug counts here)
2    usage
3    peer not reached (name, refused, no answer on UDP, --wait over)
4    authentication failed: wrong fingerprint, ticket or certificate
5    the receiver refused it: target exists, name not allowed
6    local storage: disk full, permission, I/O error
7    the source changed or could not be read
8    verification failed
9    interrupted, or the connection was lost: run the same command again
10   done but for some entries, which are listed
130  stopped by SIGINT
143  stopped by SIGTERM";

/// The variables that stand for no flag, for the help and the man pages: name, two spaces, meaning.
pub const VARIABLES: &str = "\
TOWLINE_IDENTITY  file that keeps this machine's key
NO_COLOR          no colours, when it is set and not empty";

/// The files that the program reads, for the man pages.
pub const FILES: &str = "\
~/.config/towline/identity.pem
    This machine's key and certificate, made at first use. TOWLINE_IDENTITY
    names another file. Where neither can be made, a transfer by ticket uses
    a key for this run.
~/.config/towline/config.toml
    Settings, in TOML: each long flag without its dashes is a key, for example
    memory = \"128M\"
    no-fsync = true
    A flag goes before its variable, that before this file, that before the
    default. An unknown key is an error.
.towline/ in the target directory
    What is not complete yet. It is removed at the end.";

/// Examples of `towline send`.
pub const EXAMPLES_SEND: &str = "\
towline send photos/
    Waits for one receiver and prints the command to run there.
towline send disk.img --to tl1…
    Sends to a machine where `towline receive` waits.
towline send disk.img --to @ticket.txt
    The same, with the ticket in a file, so that it is in no process list.
towline send Cargo.lock --to dir:/tmp/inbox
    Copies through the whole protocol, to a directory of this machine.";

/// Examples of `towline receive`.
pub const EXAMPLES_RECEIVE: &str = "\
towline receive --into inbox
    Waits for one sender and prints the command to run there.
TOWLINE_FROM=tl1… towline receive --exists rename
    Fetches from a machine where `towline send` waits; what would take the name
    of something else gets another one.
towline receive --from tl1… --manifest sums.txt && b3sum --check sums.txt
    Checks once more what has been received.";

/// Examples of `towline id`.
pub const EXAMPLES_ID: &str = "\
towline id
    Prints the fingerprint that other machines name with --fingerprint.";

/// Examples of `towline bench`.
pub const EXAMPLES_BENCH: &str = "\
towline bench
    How fast this machine is with both sides: from memory to nothing.
towline bench --disk /srv --size 2G
    The same from disk to disk, on the file system of /srv.
towline bench --wait
    Waits for one bench and prints the command to run on the other machine.
towline bench --to tl1… --size 1G
    How fast the path to a machine where `towline bench --wait` waits is.";
