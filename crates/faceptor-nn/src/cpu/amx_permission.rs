//! Detection of AMX, and the permission to use it: Linux gives a process the registers of its tiles only when it asks.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Number of the system call `arch_prctl`.
const ARCH_PRCTL: i64 = 158;
/// Its request for a part of the extended state (Linux 5.16, Documentation/arch/x86/xstate.rst).
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
/// The part that holds the tiles' data.
const XFEATURE_XTILEDATA: u64 = 18;
/// Tiles and their int8 products, in the CPU's leaf 7, register EDX.
const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;

/// Returns whether this process may use tiles and this CPU multiplies int8 with them. Asks the kernel once; a refusal (an
/// older kernel, a hypervisor or a filter of system calls without it) is an answer like any other.
pub(super) fn is_permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| has_instructions() && request())
}

fn has_instructions() -> bool {
    // SAFETY: every CPU of 64 bits has the instruction, and a leaf that it lacks is zero.
    #[allow(unused_unsafe, reason = "newer compilers know that the instruction is safe")]
    let (highest, features) = unsafe { (__cpuid_count(0, 0).eax, __cpuid_count(7, 0).edx) };
    highest >= 7 && features & TILE_AND_INT8 == TILE_AND_INT8
}

#[cfg(target_os = "linux")]
fn request() -> bool {
    let result: i64;
    // SAFETY: the call changes what the kernel saves for this process, and touches no memory of it. The instruction
    // overwrites RCX and R11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request() -> bool {
    false
}
