//! Every subset of the shards of a segment is lost, in every way: what may be lost is restored, what may not is told.
//!
//! `SOP_COUNT` is the number of ways in which each subset is lost (all six in a long run), `SOP_SEED` where it begins among them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::layout::Layout;
use super::super::segment::CodedSegment;
use super::super::set::{AfterReads, Set, SetRecord};
use super::*;
use crate::common::{self, Random};
use crate::segment::{BlobKind, SegmentWriter, Segments};
use crate::{BlobRef, Error};

/// How shards are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Removed,
    Emptied,
    Truncated,
    Flipped,
    Swapped,
    DriveGone,
}

const LOSSES: [Loss; 6] =
    [Loss::Removed, Loss::Emptied, Loss::Truncated, Loss::Flipped, Loss::Swapped, Loss::DriveGone];

/// One segment on its drives, and what was written to it.
struct Subject {
    root: tempfile::TempDir,
    segments: Arc<Segments>,
    blobs: Vec<(BlobRef, Vec<u8>)>,
    /// What the files of the drives held.
    whole: BTreeMap<PathBuf, Vec<u8>>,
    layout: Layout,
}

impl Subject {
    /// A segment of some stripes, the last one not full, and one of a single unit.
    fn new(data: usize, parity: usize) -> Subject {
        let root = scratch();
        let coding = coding(root.path(), "", data, parity);
        let options = options(vec![coding]);
        let database = Database::open_alone(root.path(), &options).unwrap();
        let segments = Arc::clone(database.inner.pages.segments());
        let mut random = Random::new(7);
        let mut blobs = Vec::new();
        let mut large = SegmentWriter::new(&segments);
        for len in [100, 3000, 4096, 9000].into_iter().cycle().take(6 * data) {
            let bytes = random.bytes(len);
            blobs.push((large.add(BlobKind::Value, b"key", &bytes).unwrap(), bytes));
        }
        large.finish().unwrap();
        let mut small = SegmentWriter::new(&segments);
        blobs.push((small.add(BlobKind::Value, b"key", b"small").unwrap(), b"small".to_vec()));
        small.finish().unwrap();
        let layout = *segments.sets().get(1).unwrap().layout();
        let mut subject = Subject { root, segments, blobs, whole: BTreeMap::new(), layout };
        subject.whole = subject.files();
        subject
    }

    fn drive(&self, index: usize) -> PathBuf {
        self.root.path().join(format!("drive-{index}")).join("set-1")
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for index in 0..self.layout.shards() {
            for (name, _) in crate::os::list(&self.drive(index)).unwrap() {
                let path = self.drive(index).join(name);
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
        files
    }

    fn shard(&self, index: usize) -> PathBuf {
        self.drive(index).join(format!("{}.{index}", self.blobs[0].0.segment))
    }

    fn lose(&self, index: usize, loss: Loss, random: &mut Random) {
        let path = self.shard(index);
        let mut bytes = self.whole[&path].clone();
        match loss {
            Loss::Removed => return std::fs::remove_file(path).unwrap(),
            Loss::Emptied => bytes.clear(),
            // Inside the first unit, which every shard has.
            Loss::Truncated => bytes.truncate(random.below(4000) as usize),
            Loss::Flipped => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            // With that of another drive, which is whole for itself.
            Loss::Swapped => {
                bytes.clone_from(&self.whole[&self.shard((index + 1) % self.layout.shards())]);
            }
            Loss::DriveGone => return std::fs::remove_dir_all(self.drive(index).parent().unwrap()).unwrap(),
        }
        std::fs::write(path, bytes).unwrap();
    }

    fn heal(&self) {
        for index in 0..self.layout.shards() {
            std::fs::create_dir_all(self.drive(index)).unwrap();
        }
        for (path, bytes) in &self.whole {
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// The set anew, as another process has it: nothing is open or remembered.
    fn anew(&self) -> Arc<Set> {
        let set = self.segments.sets().get(1).unwrap();
        let record = SetRecord { store: String::new(), ..set.record.clone() };
        let drives = set.drives.iter().enumerate().map(|(index, drive)| {
            super::super::drive::Drive::new(&drive.path, &record, uuid::Uuid::nil(), index)
        });
        Arc::new(Set::new(record.clone(), drives.collect(), AfterReads::Leave, 1))
    }

    /// Reads every blob, and the segment as a whole.
    fn read(&self, random: &mut Random) -> Result<()> {
        let set = self.anew();
        let mut segments = BTreeMap::new();
        for (blob, bytes) in &self.blobs {
            let segment =
                segments.entry(blob.segment).or_insert_with(|| CodedSegment::new(&set, blob.segment));
            let mut out = vec![0; blob.stored_len as usize];
            segment.read_at(&mut out, blob.offset, |read| crc32fast::hash(read) == blob.crc)?;
            assert!(out == *bytes);
        }
        for segment in segments.values() {
            let (len, mut whole) = (segment.len()?, Vec::new());
            while (whole.len() as u64) < len {
                let part = (random.below(20_000) + 1).min(len - whole.len() as u64);
                let mut out = vec![0; part as usize];
                segment.read_whole_units_at(&mut out, whole.len() as u64)?;
                whole.extend_from_slice(&out);
            }
            for (blob, bytes) in self.blobs.iter().filter(|(blob, _)| blob.segment == segment.id) {
                assert!(whole[blob.offset as usize..][..bytes.len()] == *bytes);
            }
        }
        Ok(())
    }

    fn with_lost(&self, lost: u32, loss: Loss, random: &mut Random) -> Result<()> {
        for index in (0..self.layout.shards()).filter(|index| lost >> index & 1 == 1) {
            self.lose(index, loss, random);
        }
        let read = self.read(random);
        self.heal();
        read
    }
}

fn subsets(shards: usize, sizes: std::ops::RangeInclusive<usize>) -> impl Iterator<Item = u32> {
    (0..1_u32 << shards).filter(move |lost| sizes.contains(&(lost.count_ones() as usize)))
}

#[test]
fn shards_that_may_be_lost_are_restored_whichever_they_are() {
    let (ways, first) = (common::count(1) as usize, common::seed() as usize);
    let mut random = Random::new(common::seed());
    for (data, parity) in [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (6, 3), (10, 4)] {
        let subject = Subject::new(data, parity);
        let mut trials = 0;
        for (number, lost) in subsets(data + parity, 0..=parity).enumerate() {
            for way in 0..ways.min(LOSSES.len()) {
                let loss = LOSSES[(first + number + way) % LOSSES.len()];
                subject
                    .with_lost(lost, loss, &mut random)
                    .unwrap_or_else(|error| panic!("{data} + {parity}, {lost:b} {loss:?}: {error}"));
                trials += 1;
            }
        }
        println!("{data} + {parity}: {trials} losses of at most {parity} shards");
    }
}

#[test]
fn one_more_is_told_and_nothing_wrong_is_read() {
    let mut random = Random::new(common::seed());
    let told = |error: &Error| error.kind() == ErrorKind::DrivesLost && error.message().contains("may be");
    for (data, parity) in [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2)] {
        let subject = Subject::new(data, parity);
        for lost in subsets(data + parity, parity + 1..=parity + 1) {
            for loss in LOSSES.into_iter().filter(|loss| *loss != Loss::Flipped) {
                let error = subject.with_lost(lost, loss, &mut random).unwrap_err();
                assert!(told(&error), "{data} + {parity}, {lost:b} {loss:?}: {error}");
            }
        }
        subject.read(&mut random).unwrap();
    }
}
