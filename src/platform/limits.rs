//! Resource limits of this process.

/// Returns the limit of locked memory in bytes; `None` if there is none.
pub(crate) fn locked_memory_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0 {
        return Some(0);
    }
    // 32 bit systems have a narrower type.
    #[allow(clippy::useless_conversion)]
    let bytes = u64::from(limit.rlim_cur);
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(bytes)
}

/// Makes a write beyond the file size limit (`LimitFSIZE=`) fail like one on a full disk: by default the signal SIGXFSZ
/// ends the process.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is not a handler that could run; only the signal's default action changes.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
