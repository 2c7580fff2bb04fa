//! The flag about what a receiver takes.

use clap::Args;

/// The flag about what a receiver takes.
#[derive(Debug, Default, Args)]
pub struct BoundArgs {
    /// Bound what is taken in a transfer, such as size=50G; may be repeated
    ///
    /// KEY=VALUE, with KEY one of: `entries` (files, directories and links), `size` and `file-size` (as announced, holes
    /// included), `depth` (components of a path), `name` and `path` (bytes), `free` (bytes of the file system of DIR that stay
    /// free), `only` (a pattern as for --exclude that files and links must match; may be repeated). An entry beyond a bound is
    /// refused with exit code 5, and the others arrive; when less than `free` would be left, the transfer ends. For known peers,
    /// the stricter of this and of `limits` in their entry counts. Example: --limit entries=10000 --limit size=50G --limit
    /// 'only=*.jpg'. With `towline peers add` and `set`: `limits` of the entry; `none` removes them.
    #[arg(long, env = "TOWLINE_LIMIT", hide_env = true, hide_short_help = true, value_name = "KEY=VALUE")]
    pub limit: Vec<String>,
}
