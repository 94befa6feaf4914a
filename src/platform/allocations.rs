//! Counts heap allocations by thread, so that "no allocation per frame" is measured in the very program that users run.
//!
//! The program's `main.rs` makes [`Counting`] its global allocator: the system's own allocator, with two additions to
//! thread-local numbers before it. Code that does not allocate pays nothing at all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts.
pub struct Counting;

/// Allocations of one thread since it began. Growing a block counts as one, freeing does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub calls: u64,
    /// Bytes asked for.
    pub bytes: u64,
}

impl Count {
    /// What was added since `earlier`.
    pub fn since(self, earlier: Count) -> Count {
        Count { calls: self.calls.wrapping_sub(earlier.calls), bytes: self.bytes.wrapping_sub(earlier.bytes) }
    }
}

// Made at compile time and without a destructor: the first use in a thread neither allocates nor registers anything.
thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { calls: 0, bytes: 0 }) };
}

/// The allocations of this thread; stays zero where [`Counting`] is not the global allocator.
pub fn of_this_thread() -> Count {
    COUNT.get()
}

/// Whether [`Counting`] is the global allocator of this program.
pub fn are_counted() -> bool {
    let before = of_this_thread();
    drop(std::hint::black_box(Box::new(0u8)));
    of_this_thread() != before
}

#[inline]
fn count(bytes: usize) {
    // Not reachable only while a thread's storage is being taken down; what is allocated then is no frame's.
    let _ = COUNT.try_with(|count| {
        let Count { calls, bytes: sum } = count.get();
        count.set(Count { calls: calls.wrapping_add(1), bytes: sum.wrapping_add(bytes as u64) });
    });
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments, so its guarantees are that one's;
// counting neither allocates nor panics nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`; the block came from this allocator, that is
        // from the system's.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`; the block came from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_bytes_are_counted_as_they_are_forwarded() {
        let layout = Layout::from_size_align(100, 8).expect("a valid layout");
        let larger = Layout::from_size_align(300, 8).expect("a valid layout");
        let before = of_this_thread();
        // SAFETY: the layouts are not empty; each block is freed once, with the layout that it has at the end.
        unsafe {
            let block = Counting.alloc(layout);
            assert!(!block.is_null());
            let block = Counting.realloc(block, layout, larger.size());
            assert!(!block.is_null());
            Counting.dealloc(block, larger);
            let zeroed = Counting.alloc_zeroed(layout);
            assert!(!zeroed.is_null() && *zeroed == 0);
            Counting.dealloc(zeroed, layout);
        }
        assert_eq!(of_this_thread().since(before), Count { calls: 3, bytes: 500 });
        // The test program has the standard allocator.
        assert!(!are_counted());
    }
}
