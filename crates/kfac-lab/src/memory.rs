//! The memory that the command has asked for.

use peak_alloc::PeakAlloc;

/// Counts what is allocated.
#[global_allocator]
pub static ALLOCATED: PeakAlloc = PeakAlloc;
