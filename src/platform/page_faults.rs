//! The page faults of the calling thread.

/// Returns how many pages the kernel has had to provide to this thread so far: minor and major faults.
pub fn of_this_thread() -> u64 {
    // SAFETY: all fields of the struct are numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: fills in the struct.
    match unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) } {
        0 => usage.ru_minflt as u64 + usage.ru_majflt as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_first_costs_faults() {
        let before = of_this_thread();
        let pages = std::hint::black_box(vec![1u8; 4 << 20]);
        let touched = of_this_thread() - before;
        assert!(touched > 0, "{} bytes were new", pages.len());
    }
}
