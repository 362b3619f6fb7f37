//! The memory that the command has asked for.

use peak_alloc::PeakAlloc;

/// Counts what is allocated; `kfac bench` reads it.
#[global_allocator]
pub(crate) static ALLOCATED: PeakAlloc = PeakAlloc;
