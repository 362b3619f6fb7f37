//! Work on several things at once, on the host's own processors.

use burn::tensor::Device;
use rayon::prelude::*;

/// What `f` makes of each item, in their order: at once where the device is the host.
///
/// Other devices get one item after another: their runtimes give each thread of the host a queue of its
/// own, and arithmetic that is spread over queues goes wrong without an error.
pub(crate) fn map_at_once<T: Send, R: Send>(
    device: &Device,
    items: Vec<T>,
    f: impl Fn(T) -> R + Send + Sync,
) -> Vec<R> {
    if threads(device) > 1 {
        items.into_par_iter().map(f).collect()
    } else {
        items.into_iter().map(f).collect()
    }
}

/// How many items are worked on at once.
pub(crate) fn threads(device: &Device) -> usize {
    if is_host(device) {
        rayon::current_num_threads()
    } else {
        1
    }
}

#[cfg(feature = "flex")]
fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

#[cfg(not(feature = "flex"))]
fn is_host(_device: &Device) -> bool {
    false
}

/// Work whose threads are one.
#[cfg(test)]
pub(crate) fn alone<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a thread can be made").install(work)
}
