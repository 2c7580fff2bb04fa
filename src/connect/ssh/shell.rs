//! Words for the shell of the other machine.

use std::ffi::{OsStr, OsString};

use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Finds a towline that speaks as `$1` says and becomes it, with all arguments from the third on. If there is none, it says
/// so, and takes a copy from standard input when it is told size and SHA-256; `$2` is the directory for that. Everything
/// waits for its turn, because `head` may read further than it should. A login shell that is no POSIX shell reads this in
/// quotes, so there is no quote, no line end and no exclamation mark in it. `PATH` is short without a login, so the usual
/// places of a user's own programs are tried too.
const SCRIPT: &str = concat!(
    "w=$1; c=$HOME/.cache/towline/$2; shift 2; s=; ",
    "for t in towline \"$HOME/.local/bin/towline\" \"$HOME/.cargo/bin/towline\" \"$c/towline\"; do ",
    "v=$(\"$t\" --version 2>/dev/null) || continue; ",
    "case $v in *\"$w\"*) exec \"$t\" \"$@\";; esac; ",
    "s=$(echo \"$v\" | head -n 1); ",
    "done; ",
    "echo \"towline-absent $(uname -sm)/$s\"; ",
    "read -r n h || exit 0; ",
    "t=$c/towline.$$; umask 077; ",
    "f() { rm -f \"$t\"; echo \"towline-failed $1\"; exit 1; }; ",
    "mkdir -p \"$c\" || f write; ",
    "head -c \"$n\" >\"$t\" || f write; ",
    "s=$(sha256sum \"$t\" 2>/dev/null || shasum -a 256 \"$t\") || f sum; ",
    "case $s in \"$h \"*) ;; *) f hash;; esac; ",
    "chmod 700 \"$t\" || f write; ",
    "v=$(\"$t\" --version) || f run; ",
    "case $v in *\"$w\"*) ;; *) f run;; esac; ",
    "mv -f \"$t\" \"$c/towline\" || f write; ",
    "exec \"$c/towline\" \"$@\"",
);

/// The command that starts `towline ARGS` on the other machine, if there is one that speaks as `speaks` says. A copy of this
/// one would lie in the directory `dir` of the cache.
pub(super) fn command(speaks: &str, dir: &str, args: &[OsString]) -> OsString {
    let words = ["sh", "-c", SCRIPT, "towline", speaks, dir].map(OsString::from);
    let mut command = Vec::new();
    for word in words.iter().chain(args) {
        if !command.is_empty() {
            command.push(b' ');
        }
        quote(word, &mut command);
    }
    OsString::from_vec(command)
}

/// Writes `word` so that a POSIX shell reads it as one word, whatever is in it. csh and fish read it in the same way
/// unless there is a line end, `!` or `\` in it.
fn quote(word: &OsStr, out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:,=+@%".contains(byte);
    let bytes = word.as_bytes();
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return out.extend_from_slice(bytes);
    }
    out.push(b'\'');
    for byte in bytes {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            other => out.push(*other),
        }
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn attack_20_a_shell_reads_every_word_as_it_is() {
        let words: Vec<OsString> = [
            &b"plain"[..],
            b"",
            b"a b",
            b"it's",
            b"'",
            b"$(touch x)`touch x`",
            b"-n",
            b"a\nb",
            b"\xff\\",
            b"*;&|<>\"#~!",
        ]
        .map(|word| OsString::from_vec(word.to_vec()))
        .into();
        let mut command = b"printf '%s\\0' ".to_vec();
        for word in &words {
            quote(word, &mut command);
            command.push(b' ');
        }
        let said = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&command)).output().unwrap();
        let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(said.stdout, expected);
    }

    #[test]
    fn every_shell_reads_the_script_in_quotes() {
        assert!(!SCRIPT.contains(['\'', '!', '\n', '\\']));
    }

    #[test]
    fn the_script_says_what_there_is_instead() {
        let home = tempfile::tempdir().unwrap();
        let command = command("speaks nothing", "0-0", &["receive".into()]);
        let run_with = |input: &str| {
            let mut sh = Command::new("sh");
            sh.arg("-c").arg(&command).env("HOME", home.path());
            let mut sh = sh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            sh.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            String::from_utf8(sh.wait_with_output().unwrap().stdout).unwrap()
        };
        let run = || run_with("");
        let said = run();
        assert!(said.starts_with("towline-absent ") && said.ends_with("/\n"), "{said}");
        let bin = home.path().join(".local/bin");
        std::fs::create_dir_all(&bin).unwrap();
        let program = bin.join("towline");
        let write = |text: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(&program, mode).unwrap();
        };
        write("echo towline 0.0.9; echo old");
        assert!(run().ends_with("/towline 0.0.9\n"), "{}", run());
        write("echo \"towline 9\nspeaks nothing\n$*\"");
        assert_eq!(run(), "towline 9\nspeaks nothing\nreceive\n");

        std::fs::remove_file(&program).unwrap();
        let copy = "#!/bin/sh\necho speaks nothing\n";
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, copy.as_bytes());
        let hash = data_encoding::HEXLOWER.encode(hash.as_ref());
        let bent = run_with(&format!("{} {hash}\n{}", copy.len(), copy.replace("no", "so")));
        assert!(bent.ends_with("\ntowline-failed hash\n"), "{bent}");
        let short = run_with(&format!("{} {hash}\n{}", copy.len(), &copy[1..]));
        assert!(short.ends_with("\ntowline-failed hash\n"), "{short}");
        let dir = home.path().join(".cache/towline/0-0");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing is left");
        let copied = run_with(&format!("{} {hash}\n{copy}", copy.len()));
        assert!(copied.starts_with("towline-absent ") && copied.ends_with("\nspeaks nothing\n"), "{copied}");
        assert_eq!(run(), "speaks nothing\n", "the next time it is there");
    }
}
