//! Which segments may be deleted: whole sealed ones only, and never what a consumer group has not finished.

/// A sealed segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentAge {
    /// Offset after its last record.
    pub(super) next_offset: i64,
    pub(super) bytes: u64,
    pub(super) sealed_ms: i64,
}

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Segments wholly below `finished` go: those sealed before `before_ms`, and older ones first until `excess` bytes went.
    Finished { finished: i64, before_ms: i64, excess: u64 },
    /// The newest `bytes` stay, `active` of which stand in the open segment.
    Newest { bytes: u64, active: u64 },
}

/// How many of `sealed` (oldest first) go.
pub(super) fn deletable(sealed: &[SegmentAge], rule: Rule) -> usize {
    match rule {
        Rule::Finished { finished, before_ms, excess } => {
            let mut freed = 0;
            sealed
                .iter()
                .take_while(|segment| {
                    let goes = segment.next_offset <= finished && (segment.sealed_ms < before_ms || freed < excess);
                    freed += segment.bytes;
                    goes
                })
                .count()
        }
        Rule::Newest { bytes, active } => {
            let mut kept = active + sealed.iter().map(|segment| segment.bytes).sum::<u64>();
            sealed
                .iter()
                .take_while(|segment| {
                    kept -= segment.bytes;
                    kept >= bytes
                })
                .count()
        }
    }
}
