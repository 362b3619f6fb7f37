//! Factorisations that are made to fail, for tests: nothing else makes faer's fail on finite numbers.

#[cfg(not(test))]
pub(super) fn begin() {}

#[cfg(not(test))]
pub(super) fn fails() -> bool {
    false
}

#[cfg(test)]
pub(super) use injected::{begin, fails};
#[cfg(test)]
pub(crate) use injected::{factorisations, inject};

#[cfg(test)]
mod injected {
    use std::cell::RefCell;

    /// Which factorisation of this thread fails, and how often it is tried in vain.
    #[derive(Clone, Copy, Debug, Default)]
    struct Plan {
        number: Option<usize>,
        attempts: u32,
        begun: usize,
        left: u32,
    }

    thread_local! {
        static PLAN: RefCell<Plan> = RefCell::default();
    }

    /// Lets the first attempts at one of the factorisations that follow fail.
    pub(crate) fn inject(number: Option<usize>, attempts: u32) {
        PLAN.set(Plan {
            number,
            attempts,
            ..Plan::default()
        });
    }

    /// The factorisations since then.
    pub(crate) fn factorisations() -> usize {
        PLAN.with_borrow(|plan| plan.begun)
    }

    pub(in crate::linalg) fn begin() {
        PLAN.with_borrow_mut(|plan| {
            let chosen = plan.number == Some(plan.begun);
            plan.left = if chosen { plan.attempts } else { 0 };
            plan.begun += 1;
        });
    }

    pub(in crate::linalg) fn fails() -> bool {
        PLAN.with_borrow_mut(|plan| {
            let fails = plan.left > 0;
            plan.left = plan.left.saturating_sub(1);
            fails
        })
    }
}
