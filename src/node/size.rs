//! Numbers of bytes as people write them, in flags, variables and files alike.

/// Parses a number of bytes: `65536`, `512k`, `64M`, `1MiB`. Units are powers of 1024.
///
/// # Errors
/// A sentence for people.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        "kb" | "mb" | "gb" | "tb" => {
            let first = unit.trim_start().chars().next().unwrap_or_default().to_ascii_uppercase();
            return Err(format!("write {number}{first} or {number}{first}iB; units are powers of 1024"));
        }
        _ => return Err("expected a number of bytes such as 65536, 512k, 64M or 1GiB".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number of bytes such as 65536, 512k, 64M or 1GiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the number is too large".to_owned())
}

/// The shortest way to write a size that [`parse_size`] takes: `64M`, `1000`.
pub fn exact(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "k")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("512k", 524_288),
            ("64M", 67_108_864),
            ("64 m", 67_108_864),
            ("1MiB", 1_048_576),
            ("2G", 2_147_483_648),
            ("1TiB", 1_099_511_627_776),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn invalid_sizes() {
        for text in ["", "M", "-1", "1.5G", "64X", "99999999999T", "18446744073709551616", "１M"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_size("64MB").unwrap_err(), "write 64M or 64MiB; units are powers of 1024");
    }

    #[test]
    fn exact_sizes_parse_back() {
        for bytes in [0, 7, 1 << 20, 64 << 20, 3 << 30, 1000, 1_500_000] {
            assert_eq!(parse_size(&exact(bytes)), Ok(bytes));
        }
        assert_eq!(exact(64 << 20), "64M");
        assert_eq!(exact(1_500_000), "1500000");
    }
}
