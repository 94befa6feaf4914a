//! Counts heap allocations by thread, so that "no allocation per frame" is measured in the program that users run.
//!
//! The program's `main.rs` makes [`Counting`] its global allocator: the system's allocator, preceded by two additions to
//! thread-local numbers. Code that does not allocate pays nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Forwards to the system's allocator and counts the calls.
pub struct Counting;

/// Allocations of one thread since it began. Growing a block counts as one allocation; freeing is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Number of allocations.
    pub calls: u64,
    /// Bytes that were requested.
    pub bytes: u64,
}

impl Count {
    /// Returns what was added since `earlier`.
    pub fn since(self, earlier: Count) -> Count {
        Count { calls: self.calls.wrapping_sub(earlier.calls), bytes: self.bytes.wrapping_sub(earlier.bytes) }
    }
}

// Made at compile time and without a destructor: the first use in a thread neither allocates nor registers anything.
thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { calls: 0, bytes: 0 }) };
}

/// Returns the allocations of the calling thread: always zero if [`Counting`] is not the global allocator.
pub fn of_this_thread() -> Count {
    COUNT.get()
}

/// Returns true if [`Counting`] is the global allocator of this program.
pub fn are_counted() -> bool {
    let before = of_this_thread();
    drop(std::hint::black_box(Box::new(0u8)));
    of_this_thread() != before
}

#[inline]
fn count(bytes: usize) {
    // The counter is unreachable only while a thread's storage is torn down; no frame allocates then.
    let _ = COUNT.try_with(|count| {
        let Count { calls, bytes: sum } = count.get();
        count.set(Count { calls: calls.wrapping_add(1), bytes: sum.wrapping_add(bytes as u64) });
    });
}

// SAFETY: every call goes to the system's allocator with the caller's arguments, so the guarantees are those of that
// allocator; counting neither allocates nor panics.
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
    fn counts_calls_and_bytes_while_forwarding() {
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
