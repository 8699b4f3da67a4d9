//! What a fork means for this process: how often it happened, and that a child does not keep the parent's locks.
//!
//! A lock belongs to the open file, and a child shares it: a lock that the parent gives up only by closing the file, or by dying,
//! would be held for as long as the child lives. So a lock is released before its file is closed, and a child closes its copies at once.

/// Counts the forks between the first process and this one: state of another generation is another process's.
#[cfg(unix)]
pub(super) use unix::generation;

#[cfg(not(unix))]
pub(super) fn generation() -> u32 {
    0
}

/// A file that is or was locked. To be dropped before the file.
#[cfg(unix)]
pub(super) use unix::Lockable;

/// There is no fork, and closing a file releases its lock.
#[cfg(not(unix))]
#[derive(Debug)]
pub(super) struct Lockable;

#[cfg(not(unix))]
impl Lockable {
    pub(super) fn new(_file: &super::fs::File) -> Lockable {
        Lockable
    }
}

#[cfg(unix)]
mod unix {
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::Once;
    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

    static GENERATION: AtomicU32 = AtomicU32::new(0);
    static REGISTERED: Once = Once::new();

    const NONE: RawFd = -1;
    /// Descriptors of lockable files. In an array of atomics, because a child may look at nothing else. Files beyond as many are
    /// locked all the same; a child keeps them.
    static LOCKABLE: [AtomicI32; 1024] = [const { AtomicI32::new(NONE) }; 1024];

    pub(in super::super) fn generation() -> u32 {
        REGISTERED.call_once(|| {
            // SAFETY: `in_child` makes only calls that are allowed between fork and exec. Registering can fail only for want of
            // memory; then forks go unnoticed as they would without it.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        GENERATION.load(Ordering::Relaxed)
    }

    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the path is a C string; the call is allowed between fork and exec, as are those below.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        for lockable in &LOCKABLE {
            let descriptor = lockable.swap(NONE, Ordering::Relaxed);
            if descriptor != NONE && null != NONE {
                // The number stays taken: the parent's object that holds it may be dropped yet.
                // SAFETY: both descriptors are open; what reads the replaced one is refused in a child.
                unsafe {
                    libc::dup2(null, descriptor);
                    libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
        }
        if null != NONE {
            // SAFETY: opened above.
            unsafe { libc::close(null) };
        }
    }

    #[derive(Debug)]
    pub(in super::super) struct Lockable {
        descriptor: RawFd,
        slot: Option<usize>,
        generation: u32,
    }

    impl Lockable {
        /// To be made before the file is locked.
        pub(in super::super) fn new(file: &super::super::fs::File) -> Lockable {
            let (descriptor, generation) = (file.as_raw_fd(), generation());
            let take = |slot: &AtomicI32| {
                slot.compare_exchange(NONE, descriptor, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            };
            Lockable { descriptor, slot: LOCKABLE.iter().position(take), generation }
        }
    }

    impl Drop for Lockable {
        fn drop(&mut self) {
            if self.generation != generation() {
                return;
            }
            // SAFETY: the file is open: it is dropped after this.
            unsafe { libc::flock(self.descriptor, libc::LOCK_UN) };
            if let Some(slot) = self.slot.and_then(|slot| LOCKABLE.get(slot)) {
                slot.store(NONE, Ordering::Relaxed);
            }
        }
    }
}
