//! The live loop: takes frames from a source, and hands a result over for each.
//!
//! `live_loop` runs on one thread. `frame` processes one frame within its budget by the plan of `schedule`, from the costs
//! in `budget`; `seat` is what it keeps of each source; `degradation` sheds work under overload or heat; `latency` fixes when results are published. Results go
//! through `ring` to the publisher (`outputs::publisher`), so this folder knows no output.

pub mod budget;
pub mod degradation;
pub mod frame;
pub mod frame_pool;
pub mod frame_result;
pub mod latency;
pub mod live_loop;
pub mod ring;
pub mod run_stats;
pub mod schedule;
mod seat;
pub mod shield;
pub mod statistics;
pub mod still;
pub mod virtual_clock;
