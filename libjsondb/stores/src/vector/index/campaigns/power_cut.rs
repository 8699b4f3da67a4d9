//! Power cuts: a history of steps is recorded, call by call, cut anywhere, and what may be left on disk is opened again.
//!
//! `SOP_COUNT` sets the number of images, `SOP_SEED` the first history.

use std::path::Path;

use engine::trace::{self, Fate, Image, Knowledge, Trace};

use super::audit::{audit, under_way};
use super::{Verdict, Writer, make, number_in, open, wrong};
use crate::common::{self, Random, scratch};

/// Steps of a history.
const STEPS: u64 = 9;
/// Images of each.
const IMAGES: u64 = 24;

fn record(name: &str) -> Trace {
    let folder = scratch();
    let root = folder.path().canonicalize().unwrap();
    trace::start(&root);
    let (database, mut writer) = (open(&root), Writer::new(name));
    for _ in 0..STEPS {
        let (step, noted) = (writer.step(), root.clone());
        trace::note(&root, step.number, Knowledge::Begun);
        let number = step.number;
        make(&database, &step, move || trace::note(&noted, number, Knowledge::Stored)).unwrap();
    }
    database.close().unwrap();
    trace::finish(&root)
}

/// Opens an image, looks at all that is there, goes on, and looks again. Gives what was under way.
fn check(name: &str, image: &Image, folder: &Path) -> Verdict<[bool; 3]> {
    image.write_to(folder).unwrap();
    let database = open(folder);
    let number = number_in(&database, name)?;
    let known = |knowledge| image.commits.iter().filter(move |(_, known)| **known == knowledge);
    let stored = known(Knowledge::Stored).map(|(number, _)| *number).max().unwrap_or(0);
    if number < stored || number > 0 && !image.commits.contains_key(&number) {
        return wrong(format!("step {number} is the last one, {stored} was acknowledged"));
    }
    let mut writer = Writer::at(name, number);
    let under_way = under_way(&database)?;
    audit(&database, &writer.rows, 1)?;
    for _ in 0..2 {
        make(&database, &writer.step(), || ())?;
        audit(&database, &writer.rows, 16)?;
    }
    database.close()?;
    Ok(under_way)
}

#[test]
fn a_power_cut_leaves_a_whole_index_of_an_acknowledged_state() {
    let (wanted, first) = (common::count(24), common::seed());
    let folder = scratch();
    let (mut done, mut seen) = (0, [0; 3]);
    for seed in first.. {
        let name = format!("w{seed}");
        let trace = record(&name);
        let mut random = Random::new(seed);
        let boundaries = trace.sync_boundaries();
        for image in 0..IMAGES.min(wanted - done) {
            let cut = match image % 3 {
                0 => boundaries[random.below(boundaries.len() as u64) as usize],
                _ => random.below(trace.operations() as u64 + 1) as usize,
            };
            let mut fates = Random::new(random.next());
            let made = trace.image(cut, &mut || match fates.below(6) {
                0 => Fate::Torn(fates.next()),
                1 => Fate::Gone,
                _ => Fate::Kept,
            });
            // Of its own: what this process keeps in memory of one is not taken for another's.
            let place = folder.path().join(format!("image-{done}"));
            match check(&name, &made, &place) {
                Ok(under_way) => (0..3).for_each(|index| seen[index] += u64::from(under_way[index])),
                Err(broken) => {
                    panic!("seed {seed}, cut after {cut} of {} operations: {broken}", trace.operations())
                }
            }
            std::fs::remove_dir_all(&place).unwrap();
            done += 1;
        }
        if done == wanted {
            let [built, fresh, marked] = seen;
            return println!(
                "power cuts: {done} images of {} histories; a build was under way in {built}, rows were fresh in {fresh}, deleted ones marked in {marked}",
                seed - first + 1
            );
        }
    }
}
