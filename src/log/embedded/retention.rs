//! Which segments may be deleted: whole sealed ones only, and never what a consumer group has not finished.

/// A sealed segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentAge {
    /// Offset after its last record.
    pub(super) next_offset: i64,
    pub(super) bytes: u64,
    pub(super) sealed_ms: i64,
}

/// What decides: segments wholly below `finished` go, those sealed before `before_ms`, and older ones first until `excess` bytes went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) finished: i64,
    pub(super) before_ms: i64,
    pub(super) excess: u64,
}

/// How many of `sealed` (oldest first) go.
pub(super) fn deletable(sealed: &[SegmentAge], rule: Rule) -> usize {
    let Rule { finished, before_ms, excess } = rule;
    let mut freed = 0;
    let goes = |segment: &&SegmentAge| {
        let goes = segment.next_offset <= finished && (segment.sealed_ms < before_ms || freed < excess);
        freed += segment.bytes;
        goes
    };
    sealed.iter().take_while(goes).count()
}
