//! Opening: which drive is which, and what is refused.

use super::*;

#[test]
fn drives_that_come_in_another_order_or_elsewhere_are_found() {
    let mut bench = Bench::new(3, 2);
    drop(bench.filled());
    bench.options.coding[0].drives.reverse();
    check(&bench.open(), 0..200).unwrap();
    let moved = bench.root.path().join("moved");
    std::fs::rename(bench.drive(2), &moved).unwrap();
    bench.options.coding[0].drives[2] = moved;
    bench.options.coding[0].drives.rotate_left(1);
    let database = bench.open();
    check(&database, 0..200).unwrap();
    let status = database.drive_status().unwrap();
    assert!(status.sets[0].drives.iter().all(|drive| drive.state == DriveState::Ok), "{status:?}");
}

#[test]
fn another_shape_no_shape_or_a_wrong_one_is_refused() {
    let bench = Bench::new(2, 1);
    drop(bench.filled());
    let refused = |change: &dyn Fn(&mut Coding)| {
        let mut coding = bench.options.coding[0].clone();
        change(&mut coding);
        let options = options(vec![coding]);
        let error = Database::open_alone(&bench.home(), &options).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        error.message().to_owned()
    };
    let more = bench.root.path().join("more");
    let message = refused(&|coding| {
        coding.parity = 2;
        coding.drives.push(more.clone());
    });
    assert!(message.contains("2 + 1"), "{message}");
    refused(&|coding| coding.data = 0);
    refused(&|coding| coding.drives.truncate(2));
    let message = refused(&|coding| coding.drives[1] = coding.drives[0].clone());
    assert!(message.contains("twice"), "{message}");
    let other = refused(&|coding| coding.store = "other".to_owned());
    assert!(other.contains("all stores"), "{other}");
}

#[test]
fn a_drive_of_another_database_is_not_taken() {
    let (one, mut two) = (Bench::new(1, 1), Bench::new(1, 1));
    drop(one.filled());
    two.options.coding[0].drives[1] = one.drive(0);
    let error = two.try_open().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DrivesLost);
    assert!(error.message().contains("another database"), "{error}");
    // Beside a database of its own.
    let own = two.options.coding.remove(0);
    drop(two.filled());
    two.options.coding.push(own);
    let error = two.try_open().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    check(&one.open(), 0..200).unwrap();
}

#[test]
fn a_drive_that_is_not_mounted_is_missing_and_an_empty_one_is_new() {
    let bench = Bench::new(2, 1);
    drop(bench.filled());
    let away = bench.root.path().join("away");
    std::fs::rename(bench.drive(1), &away).unwrap();
    let state = |database: &Database| database.drive_status().unwrap().sets[0].drives[1].state;
    let database = bench.open();
    assert_eq!(state(&database), DriveState::Missing);
    fill(&database, 200..220);
    database.checkpoint().unwrap();
    check(&database, 0..220).unwrap();
    assert!(!bench.drive(1).exists(), "nothing is written where the drive is to be mounted");
    drop(database);
    std::fs::create_dir(bench.drive(1)).unwrap();
    let database = bench.open();
    assert_eq!(state(&database), DriveState::Replaced);
    check(&database, 0..220).unwrap();
    drop(database);
    // The old one comes back: it lacks what was written meanwhile.
    std::fs::remove_dir_all(bench.drive(1)).unwrap();
    std::fs::rename(&away, bench.drive(1)).unwrap();
    let database = bench.open();
    assert_eq!(state(&database), DriveState::Behind);
    check(&database, 0..220).unwrap();
}

#[test]
fn empty_folders_are_no_new_drives_while_too_few_are_known() {
    let bench = Bench::new(2, 1);
    drop(bench.filled());
    for index in [0, 1] {
        std::fs::rename(bench.drive(index), bench.root.path().join(format!("away-{index}"))).unwrap();
        std::fs::create_dir(bench.drive(index)).unwrap();
    }
    // Reading the newest state takes the tree.
    let database = bench.open();
    assert_eq!(check(&database, 0..200).unwrap_err().kind(), ErrorKind::DrivesLost);
    assert!(bench.drive(0).read_dir().unwrap().next().is_none());
    drop(database);
    for index in [0, 1] {
        std::fs::remove_dir(bench.drive(index)).unwrap();
        std::fs::rename(bench.root.path().join(format!("away-{index}")), bench.drive(index)).unwrap();
    }
    check(&bench.open(), 0..200).unwrap();
}

#[test]
fn a_drive_record_that_is_damaged_follows_from_the_others() {
    let bench = Bench::new(2, 1);
    drop(bench.filled());
    let record = bench.drive(2).join("set-1").join("DRIVE");
    let mut bytes = std::fs::read(&record).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&record, &bytes).unwrap();
    let database = bench.open();
    assert_eq!(database.drive_status().unwrap().sets[0].drives[2].state, DriveState::Ok);
    check(&database, 0..200).unwrap();
}

#[test]
fn a_set_that_comes_later_takes_what_is_written_from_then_on() {
    let mut bench = Bench::new(2, 1);
    let drives = std::mem::take(&mut bench.options.coding);
    drop(bench.filled());
    bench.options.coding = drives;
    let database = bench.open();
    check(&database, 0..200).unwrap();
    assert_eq!(database.drive_status().unwrap().sets[0].segments, 0);
    fill(&database, 200..400);
    database.checkpoint().unwrap();
    check(&database, 0..400).unwrap();
    assert!(database.drive_status().unwrap().sets[0].segments > 0);
    database.verify().unwrap();
}

#[test]
fn a_process_that_was_not_given_a_later_set_is_told() {
    let mut bench = Bench::new(2, 1);
    bench.options.coding[0].store = "other".to_owned();
    let before = bench.filled();
    let drives = (3..6).map(|index| bench.drive(index)).collect();
    bench.options.coding.push(Coding { store: String::new(), drives, ..bench.options.coding[0].clone() });
    let database = bench.open();
    fill(&database, 200..220);
    database.checkpoint().unwrap();
    let told = before.begin(Mode::Read).and_then(|mut read| read.store("s")).map(drop);
    let told = told.and_then(|()| check(&before, 0..220)).unwrap_err();
    assert!(told.message().contains("erasure coding"), "{told}");
}

#[test]
fn each_store_lies_where_it_was_said_to() {
    let mut bench = Bench::new(2, 1);
    let root = bench.root.path().to_owned();
    bench.options.coding[0].store = "a".to_owned();
    let drives = (3..6).map(|index| root.join(format!("drive-{index}"))).collect();
    let (store, aliases) = ("pair".to_owned(), vec!["b".to_owned(), "c".to_owned()]);
    bench.options.coding.push(Coding { store, aliases, data: 2, parity: 1, drives, repair: false });
    bench.options.write_set_bytes = 64 << 10;
    let database = bench.open();
    let names = ["a", "b", "c", "d"];
    for round in 0..2 {
        let mut transaction = database.begin(Mode::Write).unwrap();
        for key in 0..300_u32 {
            for name in names {
                let store = transaction.ensure_store(name, b"").unwrap();
                let value = crate::common::Random::new(u64::from(key)).bytes(200);
                transaction.put(store, &(key * 2 + round).to_be_bytes(), &value, Placement::Auto).unwrap();
            }
        }
        transaction.commit().unwrap();
        database.checkpoint().unwrap();
    }
    database.verify().unwrap();
    drop(database);
    // Drives that only one of them needs: the others are read without.
    let readable = |bench: &Bench| {
        let database = bench.open();
        names.map(|name| {
            let mut transaction = database.begin(Mode::Read).unwrap();
            let Ok(Some((store, _))) = transaction.store(name) else { return false };
            // One by one: a scan looks at the leaf behind its last one, which may be another store's.
            (0..600_u32)
                .all(|key| transaction.get(store, &key.to_be_bytes()).is_ok_and(|value| value.is_some()))
        })
    };
    assert_eq!(readable(&bench), [true; 4]);
    for (index, expected) in [(0, [false, true, true, true]), (3, [true, false, false, true])] {
        for drive in [index, index + 1] {
            std::fs::rename(bench.drive(drive), root.join(format!("away-{drive}"))).unwrap();
        }
        assert_eq!(readable(&bench), expected);
        for drive in [index, index + 1] {
            std::fs::rename(root.join(format!("away-{drive}")), bench.drive(drive)).unwrap();
        }
    }
}
