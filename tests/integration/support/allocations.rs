//! How much memory a thread has taken, at most, since it began to measure.
//!
//! The allocator of this test binary is the system's, with a count for each thread beside it. Memory that
//! another thread frees counts as still taken: what is measured must stay on one thread.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = TAKEN.try_with(|taken| {
        taken.set(taken.get().wrapping_add(bytes));
        let _ = MOST.try_with(|most| most.set(most.get().max(taken.get())));
    });
}

// SAFETY: every request is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `work` returns, and the most memory that it held at one moment.
pub(crate) fn most_taken<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.with(Cell::get);
    MOST.with(|most| most.set(before));
    let done = work();
    let most = MOST.with(Cell::get) - before;
    (done, usize::try_from(most).unwrap_or(0))
}

#[test]
fn memory_is_counted() {
    let (length, most) = most_taken(|| {
        let first = vec![1_u8; 1 << 20];
        drop(first);
        vec![2_u8; 1 << 21].len()
    });
    assert_eq!(length, 1 << 21);
    assert!((1 << 21..5 << 20).contains(&most), "{most}");
}
