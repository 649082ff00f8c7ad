//! The log against a vector, through clean restarts and power cuts.
//!
//! A power cut is played like this: the disk holds back its syncs, so the last write is in the files but not known to be on
//! disk; the folder is copied at that moment; and in the copy anything is done to the bytes above the synced position.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::faults::{RiggedDisk, rigged};
use super::*;

const SIZES: std::ops::Range<usize> = 0..3000;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Read {
        from: Index,
        max_bytes: usize,
    },
    Commit(Index),
    Reopen,
    /// The sizes of records that are being written at that moment.
    PowerCut(Vec<usize>, Loss),
}

/// What becomes of the bytes above the synced position.
#[derive(Clone, Debug)]
enum Loss {
    /// The file ends somewhere in them.
    Cut(Index),
    /// Some pages never made it and read as zeros.
    Hole(Index, Index),
    /// Something else stands in some of them.
    Garbage(Index, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<Index>;
    let loss = prop_oneof![
        index().prop_map(Loss::Cut),
        (index(), index()).prop_map(|(from, to)| Loss::Hole(from, to)),
        (index(), vec(any::<u8>(), 1..200)).prop_map(|(at, bytes)| Loss::Garbage(at, bytes)),
    ];
    let step = prop_oneof![
        4 => vec(SIZES, 1..6).prop_map(Step::Append),
        3 => (index(), 0..20_000_usize).prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
        1 => index().prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        2 => (vec(SIZES, 1..6), loss).prop_map(|(sizes, loss)| Step::PowerCut(sizes, loss)),
    ];
    vec(step, 1..25)
}

/// The log and what it must hold.
struct Pair {
    dir: TempDir,
    disk: Arc<RiggedDisk>,
    log: EmbeddedLog,
    model: Vec<Bytes>,
    committed: Option<i64>,
    seed: u64,
}

impl Pair {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (disk, log) = rigged(dir.path());
        Self { dir, disk, log, model: Vec::new(), committed: None, seed: 0 }
    }

    fn payloads(&mut self, sizes: &[usize]) -> Vec<Bytes> {
        let first = self.seed;
        self.seed += sizes.len() as u64;
        (first..).zip(sizes).map(|(seed, size)| payload(seed, *size)).collect()
    }

    fn queue(&self, payload: &Bytes) -> Ack {
        self.log.append(Topic::Raw, 0, payload.clone()).unwrap()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Append(sizes) => {
                let payloads = self.payloads(&sizes);
                let acks: Vec<Ack> = payloads.iter().map(|payload| self.queue(payload)).collect();
                for (ack, payload) in acks.into_iter().zip(payloads) {
                    assert_eq!(ack.await.unwrap(), self.model.len() as i64);
                    self.model.push(payload);
                }
            }
            Step::Read { from, max_bytes } => self.read(from.index(self.model.len() + 1), max_bytes).await,
            Step::Commit(to) => {
                let to = to.index(self.model.len() + 1) as i64;
                let (_member, mut process) = reader(&self.log, ConsumerGroup::Process).await;
                process.commit(to).await.unwrap();
                self.committed = Some(to);
            }
            Step::Reopen => {
                self.log.close().await;
                (self.disk, self.log) = rigged(self.dir.path());
                let (_member, process) = reader(&self.log, ConsumerGroup::Process).await;
                assert_eq!(process.committed(), self.committed);
            }
            Step::PowerCut(sizes, loss) => self.power_cut(&sizes, &loss).await,
        }
        self.check().await;
    }

    async fn read(&self, from: usize, max_bytes: usize) {
        let records = self.log.read(ReadRequest::new(Topic::Raw, 0, from as i64, max_bytes)).await.unwrap();
        let read: Vec<_> = records.iter().map(|record| record.payload.clone()).collect();
        assert_eq!(read, self.model[from..from + read.len()]);
        assert_eq!(read.is_empty(), from == self.model.len());
        assert!(read.len() <= 1 || read.iter().map(Bytes::len).sum::<usize>() <= max_bytes);
    }

    async fn check(&self) {
        assert_eq!(self.log.bounds(Topic::Raw, 0).await.unwrap(), 0..self.model.len() as i64);
        assert_eq!(read_all(&self.log, Topic::Raw, 0).await, self.model);
    }

    async fn power_cut(&mut self, sizes: &[usize], loss: &Loss) {
        let payloads = self.payloads(sizes);
        self.disk.hold();
        // The first record occupies the disk, so that the rest becomes one write.
        let first = self.queue(&payloads[0]);
        self.disk.await_waiting();
        let rest: Vec<Ack> = payloads[1..].iter().map(|payload| self.queue(payload)).collect();
        if !rest.is_empty() {
            self.disk.permit();
            self.disk.await_waiting();
        }
        let copy = TempDir::new().unwrap();
        copy_dir(self.dir.path(), copy.path());
        let acknowledged = self.log.bounds(Topic::Raw, 0).await.unwrap().end as usize;
        let mark = self.log.store().partition(Topic::Raw, 0).unwrap().synced();
        self.disk.release();
        first.await.unwrap();
        for ack in rest {
            ack.await.unwrap();
        }
        let file = copy.path().join("raw/0").join(segment::file_name(mark.base));
        lose(&file, mark.position as usize, loss);

        (self.disk, self.log) = rigged(copy.path());
        self.dir = copy;

        // Everything acknowledged is there; of what was under way any part from its beginning.
        let found = read_all(&self.log, Topic::Raw, 0).await;
        self.model.extend(payloads);
        assert!((acknowledged..=self.model.len()).contains(&found.len()));
        self.model.truncate(found.len());
        assert_eq!(found, self.model);
        // The checkpoint is about a second old.
        self.committed = reader(&self.log, ConsumerGroup::Process).await.1.committed();
    }
}

fn lose(file: &Path, synced: usize, loss: &Loss) {
    let mut bytes = std::fs::read(file).unwrap();
    let above = bytes.len() - synced;
    match loss {
        Loss::Cut(at) => bytes.truncate(synced + at.index(above + 1)),
        Loss::Hole(from, to) if above > 0 => {
            let (from, to) = (from.index(above), to.index(above));
            bytes[synced + from.min(to)..=synced + from.max(to)].fill(0);
        }
        Loss::Hole(..) => {}
        Loss::Garbage(at, garbage) => {
            let at = synced + at.index(above + 1);
            bytes.resize(bytes.len().max(at + garbage.len()), 0);
            bytes[at..at + garbage.len()].copy_from_slice(garbage);
        }
    }
    std::fs::write(file, bytes).unwrap();
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().extension().is_some_and(|extension| extension == "tmp") {
            continue; // An unfinished draft may vanish at any moment; opening would remove it.
        }
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn log_equals_a_vector_through_restarts_and_power_cuts(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for step in steps {
                pair.step(step).await;
            }
        });
    }
}
