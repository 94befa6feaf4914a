//! The objects of the caller. A handle is a number in the shape of a pointer, not an address: one that was freed, invented or of
//! another kind is noticed, and nothing is read through it.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failure::{Failure, Outcome, Status};

/// Handles of one kind of object.
pub struct Handles<T> {
    objects: Mutex<BTreeMap<usize, Arc<T>>>,
    kind: &'static str,
}

/// Numbers of all kinds, so that none is used twice. They are not aligned, so that no pointer of a program is one.
static NEXT: AtomicUsize = AtomicUsize::new(1);
const STEP: usize = 2;

impl<T> Handles<T> {
    pub const fn of(kind: &'static str) -> Handles<T> {
        Handles { objects: Mutex::new(BTreeMap::new()), kind }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an object and returns its handle.
    pub fn add<H>(&self, object: T) -> *mut H {
        let number = NEXT.fetch_add(STEP, Ordering::Relaxed);
        self.objects().insert(number, Arc::new(object));
        ptr::without_provenance_mut(number)
    }

    /// Finds an object.
    ///
    /// # Errors
    /// When the handle is null, was freed, or is of another kind.
    pub fn get<H>(&self, handle: *const H) -> Outcome<Arc<T>> {
        if handle.is_null() {
            return Err(Failure::argument(format!("the {} is NULL", self.kind)));
        }
        let wrong = || {
            let kind = self.kind;
            Failure::new(Status::Handle, format!("this is no {kind}: it was freed, or never was one"))
        };
        self.objects().get(&handle.addr()).cloned().ok_or_else(wrong)
    }

    /// Drops an object, once no call uses it any more. Other handles are ignored.
    pub fn free<H>(&self, handle: *mut H) {
        let object = self.objects().remove(&handle.addr());
        // Dropped outside the lock, because it may wait for the end of threads.
        drop(object);
    }
}
