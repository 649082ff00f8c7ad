//! Points at which a test can end the process as a crash would.
//!
//! The environment's `FAILPOINTS` names them: `load.stored=9*off->return` ends the process when it is there for the tenth time.
//! Only test builds have this: the development dependencies turn on the feature that fills in [`fail::fail_point`].

/// Reads `FAILPOINTS`; lasts as long as what it returns.
pub fn arm() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Ends the process at once if the environment asks for it here.
#[inline]
pub fn point(name: &'static str) {
    // Used even where the macro is empty.
    let _ = name;
    fail::fail_point!(name, |_| std::process::abort());
}
