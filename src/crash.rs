//! Places where a test can end the process as a crash would.
//!
//! Which one is said in the environment's `FAILPOINTS`, as `load.stored=9*off->return` for the tenth time there. Only test
//! builds have this: the feature that fills in [`fail::fail_point`] comes with the development dependencies.

/// Reads `FAILPOINTS`; lasts as long as what it returns.
pub fn arm() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Ends the process here and now if asked to.
#[inline]
pub fn point(name: &'static str) {
    // Used even where the macro is empty.
    let _ = name;
    fail::fail_point!(name, |_| std::process::abort());
}
