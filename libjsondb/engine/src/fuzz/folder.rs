//! Whole folders that hold any pages, any log and any announcement: opened, read, verified, written to.

use super::{log, scratch, tree};
use crate::bytes::{Put, Reader};
use crate::folder::{encode_format, format_path, segment_folder};
use crate::log::tail;
use crate::manifest::{Manifest, ManifestRef, SegmentUse};
use crate::segment::SegmentId;
use crate::{Database, Direction, ErrorKind, Mode, Options, Placement, Seq};

const STEPS_MAX: usize = 1000;

pub(super) fn folder(input: &[u8]) {
    let folder = scratch();
    let path = folder.path();
    std::fs::create_dir(segment_folder(path)).unwrap();
    let mut reader = Reader::new(input);
    let (Some(announced), Some(len)) = (reader.take(tail::LEN), reader.u16()) else { return };
    let Some(pages) = reader.take(usize::from(len)) else { return };
    let planted = tree::plant(&mut Reader::new(pages), &segment_folder(path));
    let name = ManifestRef { id: SegmentId { owner: 1, number: 2 }, checkpoint: Seq(3) };
    let usage = |(id, total): &(SegmentId, u64)| (*id, SegmentUse { total: *total, live: planted.live() });
    let manifest = Manifest {
        name,
        root: planted.root(),
        segments: planted.files.iter().map(usage).collect(),
        retired: Vec::new(),
    };
    log::plant(&mut reader, path, &manifest);
    std::fs::write(path.join("log").join("TAIL"), announced).unwrap();
    std::fs::write(format_path(path), encode_format(uuid::Uuid::nil())).unwrap();
    if let Err(error) = use_database(path) {
        assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    }
}

fn use_database(path: &std::path::Path) -> crate::Result<()> {
    let database = Database::open(path, &Options { memtable_bytes: 1 << 20, ..Options::default() })?;
    let used = read_and_write(&database);
    // What is not closed stays open for the next caller in this process.
    database.close().and(used)
}

/// Does with the folder what its users do. Damage met by one does not keep the next from being tried.
fn read_and_write(database: &Database) -> crate::Result<()> {
    let verified = database.verify();
    let mut transaction = database.begin(Mode::Write)?;
    let _ = transaction.store_names("");
    let store = transaction.ensure_store("users", b"")?;
    for direction in [Direction::Forward, Direction::Backward] {
        let (mut steps, unbounded) = (0, std::ops::Bound::Unbounded);
        let _ = transaction.visit(store, unbounded, unbounded, direction, &mut |_, _| {
            steps += 1;
            Ok(steps < STEPS_MAX)
        });
    }
    let _ = transaction.get(store, b"user:3");
    transaction.put(store, b"user:3", b"again", Placement::Auto)?;
    transaction.add_to_counter(store, b"n", 1)?;
    transaction.commit()?;
    let checkpoint = database.checkpoint();
    let found = database.begin(Mode::Read)?.get(store, b"user:3");
    if verified.is_ok() {
        assert!(found.unwrap().is_some());
        // Values that the log refers to may be missing: then there is no checkpoint.
        checkpoint?;
        database.verify().unwrap();
    }
    Ok(())
}

/// Every tree with every log.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for tree in tree::seeds() {
        for log in log::seeds() {
            let mut seed = vec![0; tail::LEN];
            seed.put_u16(tree.len() as u16);
            seeds.push([seed, tree.clone(), log].concat());
        }
    }
    seeds
}
