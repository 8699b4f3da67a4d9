//! A segment that is not spread over drives: the same file on every copy.

use std::sync::Arc;

use super::view::{Standing, View};
use super::{Copies, CopyFolder, Failed, reinstate};
use crate::os::{self, File};
use crate::{Error, ErrorKind, Result};

/// One that is being written. A copy that fails is given up for it; all the others have it before anything names it.
pub(crate) struct CopiedSegment {
    copies: Arc<Copies>,
    name: String,
    /// In force when it was begun.
    view: Arc<View>,
    files: Vec<(usize, File)>,
    failed: Failed,
}

impl CopiedSegment {
    pub(crate) fn create(copies: &Arc<Copies>, name: String) -> Result<CopiedSegment> {
        let (files, failed, view) = (Vec::new(), Failed::default(), copies.view());
        let mut segment = CopiedSegment { copies: Arc::clone(copies), name, view, files, failed };
        for copy in copies.in_view(&segment.view) {
            match File::create_new(&copy.segments().join(&segment.name)) {
                Ok(file) => segment.files.push((copy.index, file)),
                Err(error) => segment.failed.note(copies, &segment.view, copy.index, error)?,
            }
        }
        segment.check_any()?;
        Ok(segment)
    }

    pub(crate) fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.each(|file| file.write_all_at(bytes, offset))
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.each_at_once(File::sync)
    }

    /// As [`CopiedSegment::each`], for what waits for drives.
    fn each_at_once(&mut self, act: impl Fn(&File) -> Result<()> + Sync) -> Result<()> {
        let mut done = os::at_once(&self.files, |(_, file)| act(file)).into_iter();
        self.each(|_| done.next().unwrap_or(Ok(())))
    }

    /// Does something on all copies that have not failed at it.
    fn each(&mut self, mut act: impl FnMut(&File) -> Result<()>) -> Result<()> {
        let mut files = Vec::with_capacity(self.files.len());
        for (index, file) in self.files.drain(..) {
            match act(&file) {
                Ok(()) => files.push((index, file)),
                Err(error) => self.failed.note(&self.copies, &self.view, index, error)?,
            }
        }
        self.files = files;
        self.check_any()
    }

    fn check_any(&self) -> Result<()> {
        match (&self.failed.cause, self.files.is_empty()) {
            (Some(cause), true) => {
                let what = format!("every copy failed while a segment was written: {cause}");
                Err(Error::new(ErrorKind::DrivesLost, what))
            }
            _ => Ok(()),
        }
    }

    /// Makes the name durable, also on copies that were brought up to date meanwhile; goes on without those that failed. One that joins after the
    /// last look copies what is there then.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.each_at_once(|file| file.path().parent().map_or(Ok(()), os::sync_folder))?;
        self.copies.drop_failed(&self.view, std::mem::take(&mut self.failed))?;
        loop {
            let view = self.copies.view();
            let mut failed = Failed::default();
            for copy in self.copies.in_view(&view) {
                if let Err(error) = self.give_to(copy) {
                    failed.note(&self.copies, &view, copy.index, error)?;
                }
            }
            if failed.is_empty() && view.standing() == Standing::InForce {
                return Ok(());
            }
            self.copies.leave(&view, failed)?;
        }
    }

    /// Copies the file to a copy that has joined meanwhile.
    fn give_to(&self, copy: &CopyFolder) -> Result<()> {
        if self.files.iter().any(|(index, _)| *index == copy.index) {
            return Ok(());
        }
        let Some(source) = self.files.first().and_then(|(index, _)| self.copies.all.get(*index)) else {
            return Err(Error::missing(&copy.segments().join(&self.name)));
        };
        reinstate::copy_file(&source.segments(), &copy.segments(), &self.name, copy, &mut |_| Ok(()))?;
        os::sync_folder(&copy.segments())
    }
}
