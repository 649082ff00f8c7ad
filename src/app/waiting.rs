//! Events in the raw topic that the table does not show yet: the part of the ledger that the log answers.
