//! The program; everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where the system gives huge pages unasked, a few bytes here and there take 2 MiB each, and many files up to five
    // times `--memory`. A kernel that knows none refuses.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    towline::cli::main()
}
