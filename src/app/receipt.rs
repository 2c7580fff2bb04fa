//! `towline receipt`: checks a receipt.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::settings::ReceiptSettings;
use crate::auth::{RECEIPT_BYTES_MAX, Receipt};
use crate::event::{CheckedReceipt, Event, Reporter};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::manifest_root::ManifestRoot;
use crate::protocol::path::{RelPath, printable};
use crate::protocol::wire::limits::PATH_BYTES_MAX;

/// A line of `b3sum` has a hash and a name, of which each byte may be escaped.
const LINE_BYTES_MAX: u64 = 2 * PATH_BYTES_MAX as u64 + 128;

/// Checks the signature, and the files if there is a list of them.
pub(super) fn run(settings: &ReceiptSettings, reporter: &dyn Reporter) -> Result<u8, Failure> {
    let ReceiptSettings { file, manifest, fingerprint } = settings;
    let shown = printable(file.as_os_str().as_encoded_bytes());
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(RECEIPT_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| Failure::new(Reason::Setup, format!("cannot read {shown}: {error}")))?;
    let invalid = |why: String| Failure::new(Reason::Verification, format!("{shown}: {why}"));
    let receipt: Receipt = text.parse().map_err(|error| invalid(format!("{error}")))?;
    receipt.verify().map_err(|error| invalid(error.to_string()))?;
    let receiver = receipt.statement.receiver;
    if let Some(named) = fingerprint.filter(|named| *named != receiver) {
        return Err(invalid(format!("it was signed by {receiver}, not by {named}")));
    }
    if let Some(manifest) = manifest {
        compare(&receipt, manifest, &shown)?;
    }
    reporter.report(Event::Receipt(CheckedReceipt { text, has_files: manifest.is_some() }));
    Ok(0)
}

/// Compares the files of a receipt with lines of `b3sum`.
fn compare(receipt: &Receipt, manifest: &Path, receipt_shown: &str) -> Result<(), Failure> {
    let shown = printable(manifest.as_os_str().as_encoded_bytes());
    let cannot = |error: io::Error| Failure::new(Reason::Setup, format!("cannot read {shown}: {error}"));
    let mut lines = BufReader::new(File::open(manifest).map_err(cannot)?);
    let (mut root, mut number) = (ManifestRoot::default(), 0);
    loop {
        let mut line = Vec::new();
        lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(cannot)?;
        if line.is_empty() {
            break;
        }
        number += 1;
        let (hash, path) = parse(&line).ok_or_else(|| {
            let form = "expected a line of b3sum, with a path under the target directory";
            Failure::new(Reason::Setup, format!("{shown}, line {number}: {form}"))
        })?;
        root.add(&hash, &path);
    }
    let differs = |why: String| Failure::new(Reason::Verification, format!("{receipt_shown}: {why}"));
    let files = receipt.statement.files;
    if root.files() != files {
        return Err(differs(format!("it is about {files} files, and {shown} lists {}", root.files())));
    }
    if root.root() != receipt.statement.manifest {
        return Err(differs(format!("a path or a hash in {shown} is not one of the files it is about")));
    }
    Ok(())
}

/// The hash and the path of a line as `b3sum` writes it: a leading backslash marks a name with escapes.
fn parse(line: &[u8]) -> Option<(blake3::Hash, RelPath)> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (is_escaped, line) = line.strip_prefix(b"\\").map_or((false, line), |rest| (true, rest));
    let (hash, name) = line.split_at_checked(2 * blake3::OUT_LEN)?;
    let hash = blake3::Hash::from_hex(hash).ok()?;
    let name = name.strip_prefix(b"  ")?;
    let name = if is_escaped { unescaped(name)? } else { name.to_vec() };
    Some((hash, RelPath::new(name.strip_prefix(b"./").unwrap_or(&name)).ok()?))
}

fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let (mut plain, mut bytes) = (Vec::with_capacity(name.len()), name.iter());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_b3sum_are_read() {
        let hash = blake3::hash(b"");
        for (line, path) in [
            (format!("{hash}  a b"), &b"a b"[..]),
            (format!("{hash}  ./d/e\\n"), b"d/e\\n"),
            (format!("\\{hash}  a\\\\b\\nc\\r"), b"a\\b\nc\r"),
        ] {
            assert_eq!(
                parse(format!("{line}\n").as_bytes()),
                Some((hash, RelPath::new(path).unwrap())),
                "{line}"
            );
            assert!(parse(line.as_bytes()).is_some());
        }
        for line in [format!("{hash} a"), format!("{hash}  /a"), format!("{hash}  ../a"), "x".to_owned()] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(parse(format!("\\{hash}  a\\x").as_bytes()), None);
    }
}
