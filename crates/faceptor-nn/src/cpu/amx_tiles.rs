//! Tiles of AMX: their configuration, and the loops that multiply them.
//!
//! The intrinsics are not stable, so the loops are assembly. Tiles hold what they are configured for until they are released:
//! [`Tiles`] does both, once a product.

use std::arch::asm;

use crate::cpu::DEPTH_GROUP;
use crate::cpu::avx512::LANES;

/// Rows of a tile, at most.
pub(super) const ROWS: usize = 16;
/// Bytes of a row of a tile, at most.
pub(super) const BYTES: usize = 64;

/// What the tiles of the CPU are configured with (the manual's table of `LDTILECFG`): 0 to 3 hold sums, 4 and 5 activations,
/// 6 and 7 weights.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The configured tiles of this thread; released when dropped.
pub(super) struct Tiles {
    pub(super) rows: usize,
    pub(super) step: usize,
}

impl Tiles {
    /// Configures tiles for `rows` rows of results and `step` bytes of the depth.
    ///
    /// # Safety
    /// The process may use tiles, see `amx_permission`.
    pub(super) unsafe fn new(rows: usize, step: usize) -> Tiles {
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for tile in 0..8 {
            let (row_bytes, rows) = match tile {
                0..4 => (BYTES, rows),
                4..6 => (step, rows),
                _ => (BYTES, step / DEPTH_GROUP),
            };
            (config.row_bytes[tile], config.rows[tile]) = (row_bytes as u16, rows as u8);
        }
        // SAFETY: as the caller's; the configuration has at most 16 rows of 64 bytes, as the palette allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
        Tiles { rows, step }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the process may use tiles: there was a configuration.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Operands of one or two tiles of rows by one or two tiles of columns, as the assembly reads them.
#[repr(C)]
pub(super) struct Operands {
    /// Windows of the first row of each tile.
    pub(super) a: [*const u8; 2],
    /// Bytes between the windows of rows.
    pub(super) a_step: usize,
    /// Weights of the first column.
    pub(super) b: *const i8,
    /// Bytes between groups of the depth.
    pub(super) b_step: usize,
    /// Bytes between steps of the depth.
    pub(super) b_next: usize,
    /// Steps of the depth in a run.
    pub(super) steps: usize,
    /// Bytes of a step.
    pub(super) step: usize,
    pub(super) runs: usize,
    /// Bytes between the end of a run and the next one.
    pub(super) gap: usize,
    /// Sums of the first row and column of each tile.
    pub(super) out: [*mut i32; 2],
    /// Bytes between rows of sums.
    pub(super) out_step: usize,
}

/// Defines a function that multiplies tiles: the tiles that are cleared, the products of a step, the tiles that are stored.
macro_rules! multiply_tiles {
    ($name:ident, $clear:literal, $products:literal, $store:literal) => {
        /// # Safety
        /// Tiles are configured, and all operands lie in memory that may be read or written.
        pub(super) unsafe fn $name(operands: &Operands) {
            // SAFETY: as the caller's.
            unsafe {
                asm!(
                    "mov r8, [rdi]",
                    "mov r9, [rdi + 8]",
                    "mov r10, [rdi + 16]",
                    "mov rsi, [rdi + 24]",
                    "mov r11, [rdi + 32]",
                    "mov rdx, [rdi + 56]",
                    "mov rcx, [rdi + 64]",
                    $clear,
                    "3:",
                    "mov rax, [rdi + 48]",
                    "2:",
                    $products,
                    "add r8, rdx",
                    "add r9, rdx",
                    "add rsi, [rdi + 40]",
                    "dec rax",
                    "jnz 2b",
                    "add r8, [rdi + 72]",
                    "add r9, [rdi + 72]",
                    "dec rcx",
                    "jnz 3b",
                    "mov r8, [rdi + 80]",
                    "mov r9, [rdi + 88]",
                    "mov r10, [rdi + 96]",
                    $store,
                    in("rdi") operands,
                    out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

multiply_tiles!(
    two_by_two,
    "tilezero tmm0\n tilezero tmm1\n tilezero tmm2\n tilezero tmm3",
    "tileloadd tmm6, [rsi + r11]
     tileloadd tmm4, [r8 + r10]
     tileloadd tmm7, [rsi + r11 + 64]
     tdpbusd tmm0, tmm4, tmm6
     tileloadd tmm5, [r9 + r10]
     tdpbusd tmm1, tmm4, tmm7
     tdpbusd tmm2, tmm5, tmm6
     tdpbusd tmm3, tmm5, tmm7",
    "tilestored [r8 + r10], tmm0
     tilestored [r8 + r10 + 64], tmm1
     tilestored [r9 + r10], tmm2
     tilestored [r9 + r10 + 64], tmm3"
);
multiply_tiles!(
    two_by_one,
    "tilezero tmm0\n tilezero tmm2",
    "tileloadd tmm6, [rsi + r11]
     tileloadd tmm4, [r8 + r10]
     tileloadd tmm5, [r9 + r10]
     tdpbusd tmm0, tmm4, tmm6
     tdpbusd tmm2, tmm5, tmm6",
    "tilestored [r8 + r10], tmm0
     tilestored [r9 + r10], tmm2"
);
multiply_tiles!(
    one_by_two,
    "tilezero tmm0\n tilezero tmm1",
    "tileloadd tmm4, [r8 + r10]
     tileloadd tmm6, [rsi + r11]
     tileloadd tmm7, [rsi + r11 + 64]
     tdpbusd tmm0, tmm4, tmm6
     tdpbusd tmm1, tmm4, tmm7",
    "tilestored [r8 + r10], tmm0
     tilestored [r8 + r10 + 64], tmm1"
);
multiply_tiles!(
    one_by_one,
    "tilezero tmm0",
    "tileloadd tmm4, [r8 + r10]
     tileloadd tmm6, [rsi + r11]
     tdpbusd tmm0, tmm4, tmm6",
    "tilestored [r8 + r10], tmm0"
);

/// Multiply-accumulates of one round of [`products`].
pub(super) const MACS: u64 = 4 * (ROWS * LANES * BYTES) as u64;

/// Multiplies full tiles, nothing else.
///
/// # Safety
/// The process may use tiles.
pub(super) unsafe fn products(rounds: u64) {
    // SAFETY: as the caller's; the products touch no memory.
    unsafe {
        let _tiles = Tiles::new(ROWS, BYTES);
        asm!(
            "2:",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem)
        );
    }
}
