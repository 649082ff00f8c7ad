//! The `pulse` program: everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Blocks and records are large and live for moments: with huge pages the kernel clears 2 MiB each time for the part that is
    // used, which took a fifth of the time of loading. A kernel without huge pages has nothing to disable.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    pulse::cli::run()
}
