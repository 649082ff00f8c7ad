//! How many bytes questions hold in this process.
//!
//! Promises: what all of them hold does not exceed the limit but for a block or a part of each, which is counted once it is there, and one
//! does not hold more than half of it, so that the largest does not refuse the others.

use std::sync::Arc;

use crate::byte_budget::ByteBudget;
use crate::query::error::QueryError;

/// What all questions hold.
#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<ByteBudget>);

/// What one question holds of it.
#[derive(Debug)]
struct OfQuestion {
    all: Arc<ByteBudget>,
    own: ByteBudget,
}

/// Bytes that a part of a question holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    question: Arc<OfQuestion>,
    bytes: usize,
}

/// Why a question may not hold more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfMemory {
    /// It holds as much as one may.
    Question,
    /// Others hold the rest.
    All,
}

impl OutOfMemory {
    /// What that is to who asked, where no other way of reading takes less.
    pub(crate) fn refusal(self) -> QueryError {
        match self {
            Self::Question => QueryError::too_large(),
            Self::All => QueryError::out_of_memory(),
        }
    }
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self(Arc::new(ByteBudget::new(usize::try_from(limit).unwrap_or(usize::MAX))))
    }

    /// Of a new question, which holds nothing yet.
    pub(super) fn question(&self) -> Held {
        let own = ByteBudget::new(self.0.limit() / 2);
        Held { question: Arc::new(OfQuestion { all: Arc::clone(&self.0), own }), bytes: 0 }
    }
}

impl Held {
    /// Another part of the same question, which holds nothing yet.
    pub(crate) fn another(&self) -> Self {
        Self { question: Arc::clone(&self.question), bytes: 0 }
    }

    /// What this part holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the question may hold in all, bytes.
    pub(crate) fn limit(&self) -> usize {
        self.question.own.limit()
    }

    /// Holds `bytes` in all from now on.
    ///
    /// # Errors
    /// There is not so much; what is held stays as it is.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let OfQuestion { all, own } = &*self.question;
        let Some(more) = bytes.checked_sub(self.bytes) else {
            self.release(self.bytes - bytes);
            return Ok(());
        };
        if !own.take(more) {
            return Err(OutOfMemory::Question);
        }
        if !all.take(more) {
            own.give_back(more);
            return Err(OutOfMemory::All);
        }
        self.bytes = bytes;
        Ok(())
    }

    fn release(&mut self, bytes: usize) {
        self.question.own.give_back(bytes);
        self.question.all.give_back(bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
impl Held {
    /// Of a question that may hold so many bytes.
    pub(crate) fn of_limit(bytes: u64) -> Self {
        Memory::new(2 * bytes).question()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_holds_half_of_it_and_all_hold_no_more_than_it() {
        let memory = Memory::new(100);
        let (mut first, mut second, mut third) = (memory.question(), memory.question(), memory.question());
        assert_eq!((first.set(30), second.set(50)), (Ok(()), Ok(())));
        let mut part = first.another();
        assert_eq!((part.set(21), part.set(20)), (Err(OutOfMemory::Question), Ok(())));
        assert_eq!(third.set(1), Err(OutOfMemory::All));
        first.set(29).unwrap();
        assert_eq!((third.set(1), third.set(2)), (Ok(()), Err(OutOfMemory::All)));
        drop((first, second, part));
        assert_eq!((third.set(50), third.set(51)), (Ok(()), Err(OutOfMemory::Question)));
        drop(third);
        assert_eq!(memory.0.held(), 0);
    }
}
