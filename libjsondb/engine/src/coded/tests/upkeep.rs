//! Scrub, repair, backup, and what goes when nobody needs it any more.

use super::*;
use crate::BackupCheck;

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_scrub_finds_what_is_wrong_and_a_repair_mends_it() {
    let bench = Bench::new(2, 2);
    let database = bench.filled();
    let scrub = || with_progress(|progress| database.scrub(progress)).unwrap();
    let whole = scrub();
    assert_eq!((whole.findings.len(), whole.lost.len()), (0, 0));
    assert_eq!(whole.shards, whole.segments * 4);
    let pristine: Vec<Vec<u8>> =
        (0..4).map(|index| std::fs::read(&bench.shards(index)[0]).unwrap()).collect();
    flip(&bench.shards(1)[0], 100);
    flip(&bench.shards(3)[0], 50);
    let found: Vec<usize> = scrub().findings.iter().map(|finding| finding.index).collect();
    assert_eq!(found, [1, 3]);
    let missing = with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
    assert_eq!(missing.shards, 0, "a listing does not show it");
    let repair = with_progress(|progress| database.repair(RepairScope::Everything, progress)).unwrap();
    assert_eq!((repair.segments, repair.shards, repair.failed.len()), (1, 2, 0));
    assert!(scrub().findings.is_empty());
    for (index, bytes) in pristine.iter().enumerate() {
        assert!(std::fs::read(&bench.shards(index)[0]).unwrap() == *bytes, "the same bytes as before");
        assert!(crate::os::list(&bench.drive(index).join("set-1").join("tmp")).unwrap().is_empty());
    }
    check(&database, 0..200).unwrap();
}

#[test]
fn a_repair_mends_what_it_has_to_read_and_finds_damaged() {
    let bench = Bench::new(2, 2);
    let database = bench.filled();
    std::fs::remove_file(&bench.shards(0)[0]).unwrap();
    flip(&bench.shards(1)[0], 100);
    let repair = with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
    assert_eq!((repair.shards, repair.failed.len()), (2, 0));
    assert!(with_progress(|progress| database.scrub(progress)).unwrap().findings.is_empty());
}

#[test]
fn what_cannot_be_repaired_is_told() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    let segments = bench.shards(0).len();
    for index in 0..2 {
        std::fs::remove_file(&bench.shards(index)[0]).unwrap();
    }
    let scrub = with_progress(|progress| database.scrub(progress)).unwrap();
    assert_eq!((scrub.lost.len(), scrub.findings.len()), (1, 2));
    let repair = with_progress(|progress| database.repair(RepairScope::Everything, progress)).unwrap();
    assert_eq!((repair.shards, repair.failed.len()), (0, 2));
    let status = database.drive_status().unwrap();
    assert_eq!(status.sets[0].at_risk.lost, 1);
    assert_eq!(status.sets[0].at_risk.by_spare, [0, segments as u64 - 1]);
}

#[test]
fn a_replaced_drive_is_filled_while_the_database_is_open() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    bench.replace(1);
    check(&database, 0..200).unwrap();
    let repair = with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
    assert!(repair.shards > 0 && repair.failed.is_empty(), "{repair:?}");
    let status = database.drive_status().unwrap();
    assert!(status.sets[0].drives.iter().all(|drive| drive.state == DriveState::Ok), "{status:?}");
    bench.replace(0);
    check(&database, 0..200).unwrap();
}

#[test]
fn reads_repair_what_they_find_when_they_are_told_to() {
    for repair in [false, true] {
        let mut bench = Bench::new(2, 1);
        bench.options.coding[0].repair = repair;
        drop(bench.filled());
        let removed = bench.shards(0);
        removed.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        check(&bench.open(), 0..200).unwrap();
        assert!(removed.iter().all(|path| path.exists() == repair));
        if repair {
            flip(&removed[0], 100);
            let database = bench.open();
            check(&database, 0..200).unwrap();
            assert!(with_progress(|progress| database.scrub(progress)).unwrap().findings.is_empty());
        }
    }
}

#[test]
fn a_backup_is_a_plain_database() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    fill(&database, 200..220);
    bench.replace(0);
    let target = bench.root.path().join("backup");
    with_progress(|progress| database.backup(&target, BackupCheck::Full, progress)).unwrap();
    let copy = Database::open_alone(&target, &Options::default()).unwrap();
    check(&copy, 0..220).unwrap();
    copy.verify().unwrap();
    fill(&copy, 220..240);
    copy.checkpoint().unwrap();
    check(&copy, 0..240).unwrap();
    drop(copy);
    // And may be spread over drives again: those of its segments that are files keep their numbers.
    let mut coding = bench.options.coding[0].clone();
    coding.drives.iter_mut().for_each(|path| *path = path.with_extension("new"));
    let copy = Database::open_alone(&target, &options(vec![coding])).unwrap();
    check(&copy, 0..240).unwrap();
    fill(&copy, 240..400);
    copy.checkpoint().unwrap();
    check(&copy, 0..400).unwrap();
    copy.verify().unwrap();
}

/// Writes so often that segments are retired and removed.
fn churn(database: &Database) {
    for _ in 0..8 {
        fill(database, 0..200);
        database.checkpoint().unwrap();
    }
}

#[test]
fn shards_of_segments_that_nobody_needs_go() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    churn(&database);
    database.close().unwrap();
    let in_use = bench.open().drive_status().unwrap().sets[0].segments as usize;
    for index in 0..3 {
        assert_eq!(bench.shards(index).len(), in_use);
    }
}

#[test]
fn a_drive_that_was_away_is_swept_when_it_is_back() {
    let bench = Bench::new(2, 1);
    drop(bench.filled());
    let away = bench.root.path().join("away");
    std::fs::rename(bench.drive(1), &away).unwrap();
    let database = bench.open();
    churn(&database);
    database.close().unwrap();
    std::fs::rename(&away, bench.drive(1)).unwrap();
    assert!(!bench.shards(1).is_empty());
    // What a process left that died while it repaired.
    let staged = bench.drive(2).join("set-1").join("tmp").join("00000000000000aa-1");
    std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
    std::fs::write(&staged, b"half").unwrap();
    let database = bench.open();
    fill(&database, 0..1);
    database.checkpoint().unwrap();
    let in_use = database.drive_status().unwrap();
    let drive = &in_use.sets[0].drives[1];
    assert_eq!(bench.shards(1).len() as u64, drive.shards, "only what is in use is left");
    assert!(!staged.exists());
    check(&database, 0..200).unwrap();
}

#[test]
fn an_unfinished_transaction_leaves_no_shard() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    let before: Vec<usize> = (0..3).map(|index| bench.shards(index).len()).collect();
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.put(store, b"key", &value_of(10), Placement::Eager).unwrap();
    let read = transaction.get_with(store, b"key", |value| value.map(<[u8]>::to_vec)).unwrap();
    assert_eq!(read, Some(value_of(10)), "what is being written is read");
    assert!(bench.shards(0).len() > before[0]);
    drop(transaction);
    let after: Vec<usize> = (0..3).map(|index| bench.shards(index).len()).collect();
    assert_eq!(before, after);
}

/// Segments of so little that only the first shard has data.
fn small(repair: bool) -> Bench {
    let mut bench = Bench::new(4, 2);
    bench.options.coding[0].repair = repair;
    let database = bench.open();
    fill(&database, 1..4);
    database.checkpoint().unwrap();
    database.close().unwrap();
    // One of parity is left, and the first.
    for path in [1, 2, 3, 5].iter().flat_map(|index| bench.shards(*index)) {
        std::fs::remove_file(path).unwrap();
    }
    bench
}

#[test]
fn shards_without_data_are_not_missed() {
    let bench = small(false);
    let database = bench.open();
    let at_risk = || database.drive_status().unwrap().sets[0].at_risk.clone();
    let segments = bench.shards(0).len() as u64;
    assert_eq!((at_risk().by_spare, at_risk().lost), (vec![0, segments, 0], 0));
    check(&database, 1..4).unwrap();
    bench.shards(0).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!((at_risk().by_spare, at_risk().lost), (vec![segments, 0, 0], 0));
    check(&bench.open(), 1..4).unwrap();
    let repair = with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
    assert_eq!((repair.shards, repair.failed.len()), (5 * segments, 0));
    assert_eq!((at_risk().by_spare, at_risk().lost), (vec![0, 0, segments], 0));
    assert!(with_progress(|progress| database.scrub(progress)).unwrap().findings.is_empty());
    (0..6).flat_map(|index| bench.shards(index)).for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(at_risk().lost, segments);
}

#[test]
fn a_read_that_repairs_keeps_what_it_wrote_when_few_others_are_there() {
    let bench = small(true);
    for path in bench.shards(0) {
        // In a page, behind the header of the segment.
        flip(&path, 300);
    }
    check(&bench.open(), 1..4).unwrap();
    let database = bench.open();
    let scrub = with_progress(|progress| database.scrub(progress)).unwrap();
    assert!(scrub.findings.iter().all(|finding| [1, 2, 3, 5].contains(&finding.index)), "{scrub:?}");
    assert!(!bench.shards(0).is_empty());
}
