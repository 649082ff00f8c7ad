//! The canonical form of a question: two questions of one form have the same answer, at any time and in every process of a release.
//!
//! Written field by field, so that neither the layout of a type nor a derived format decides what a question is. An implementation
//! takes its type apart without `..`: a new field does not compile until it is part of the form. Texts carry their length, so no two
//! questions share a form.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_128;

/// Something of a question.
pub(crate) trait Canonical {
    /// Appends it to the form.
    fn canonical(&self, to: &mut CanonicalForm);
}

/// A form under construction.
#[derive(Debug)]
pub(crate) struct CanonicalForm(String);

impl CanonicalForm {
    /// The form of a question of `report` to `release`: another release may answer it otherwise.
    pub(crate) fn of(release: &str, report: &str) -> Self {
        let mut form = Self(String::with_capacity(256));
        form.field("release", release).field("report", report);
        form
    }

    /// Appends a field.
    pub(crate) fn field(&mut self, name: &'static str, value: &(impl Canonical + ?Sized)) -> &mut Self {
        self.0.push_str(name);
        self.0.push('=');
        value.canonical(self);
        self.0.push(';');
        self
    }

    /// Appends values whose order and repetition mean nothing.
    pub(crate) fn set(&mut self, name: &'static str, values: &[impl Canonical]) -> &mut Self {
        let form = |value: &_| {
            let mut form = Self(String::new());
            Canonical::canonical(value, &mut form);
            form.0
        };
        let mut forms: Vec<String> = values.iter().map(form).collect();
        forms.sort_unstable();
        forms.dedup();
        self.field(name, &forms)
    }

    /// Appends one of a fixed set of words.
    pub(crate) fn word(&mut self, word: &'static str) {
        self.0.push_str(word);
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
    }

    /// The identity of the question.
    pub(crate) fn fingerprint(&self) -> u128 {
        xxh3_128(self.0.as_bytes())
    }
}

impl Canonical for str {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.display(self.len());
        to.0.push(':');
        to.0.push_str(self);
    }
}

impl Canonical for String {
    fn canonical(&self, to: &mut CanonicalForm) {
        self.as_str().canonical(to);
    }
}

impl Canonical for u64 {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.display(self);
    }
}

impl Canonical for usize {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.display(self);
    }
}

impl Canonical for i64 {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.display(self);
    }
}

impl Canonical for i128 {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.display(self);
    }
}

impl Canonical for bool {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.word(if *self { "true" } else { "false" });
    }
}

impl<T: Canonical + ?Sized> Canonical for &T {
    fn canonical(&self, to: &mut CanonicalForm) {
        T::canonical(self, to);
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Some(value) => value.canonical(to),
            None => to.word("-"),
        }
    }
}

impl<T: Canonical> Canonical for [T] {
    fn canonical(&self, to: &mut CanonicalForm) {
        to.0.push('[');
        for value in self {
            value.canonical(to);
            to.0.push(',');
        }
        to.0.push(']');
    }
}

impl<T: Canonical> Canonical for Vec<T> {
    fn canonical(&self, to: &mut CanonicalForm) {
        self.as_slice().canonical(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(value: &impl Canonical) -> String {
        let mut form = CanonicalForm(String::new());
        value.canonical(&mut form);
        form.0
    }

    #[test]
    fn texts_that_read_like_the_form_itself_are_told_apart() {
        let texts = [vec!["a".to_owned(), "b".to_owned()], vec!["a,1:b".to_owned()], vec!["a;b=".to_owned()], vec![String::new()], vec![]];
        let mut forms: Vec<String> = texts.iter().map(form).collect();
        forms.extend([form(&None::<String>), form(&Some("-".to_owned())), form(&true), form(&"true".to_owned())]);
        let all = forms.len();
        forms.sort_unstable();
        forms.dedup();
        assert_eq!(forms.len(), all, "{forms:?}");
    }

    #[test]
    fn a_set_is_known_by_its_members_alone() {
        let set = |values: &[&str]| {
            let mut form = CanonicalForm(String::new());
            form.set("set", values);
            form.0
        };
        assert_eq!(set(&["a", "b", "a"]), set(&["b", "a"]));
        assert_ne!(set(&["a"]), set(&["a", "b"]));
        assert_ne!(set(&["a,b"]), set(&["a", "b"]));
    }

    #[test]
    fn release_and_report_are_part_of_a_question() {
        let question = |release, report| CanonicalForm::of(release, report).fingerprint();
        assert_eq!(question("1.2.3", "trends"), question("1.2.3", "trends"));
        assert_ne!(question("1.2.3", "trends"), question("1.2.4", "trends"));
        assert_ne!(question("1.2.3", "trends"), question("1.2.3", "users"));
    }
}
