//! Events of a camera: HDMI bridges and capture cards report that the input signal has another size.
//!
//! The ioctls and their numbers are those of linux/videodev2.h; the `v4l` crate has only the structures.

use v4l::v4l_sys::*;

use crate::capture::v4l2::backend::CameraNode;
use crate::capture::v4l2::ioctl::{KernelStruct, Request, number};
use crate::capture::v4l2::node::Node;

const READ: Request = 2;
const WRITE: Request = 1;

const DQEVENT: Request = number::<v4l2_event>(READ, 89);
const SUBSCRIBE_EVENT: Request = number::<v4l2_event_subscription>(WRITE, 90);
const S_DV_TIMINGS: Request = number::<v4l2_dv_timings>(READ | WRITE, 87);
const QUERY_DV_TIMINGS: Request = number::<v4l2_dv_timings>(READ, 99);
/// Number of events that are read at once, more than a driver keeps.
const MAX_EVENTS: u32 = 64;

/// Subscribes to changes of the input signal. Returns false for cameras without one, such as webcams.
pub(crate) fn subscribe(node: &Node) -> bool {
    let mut subscription = v4l2_event_subscription::zeroed();
    subscription.type_ = V4L2_EVENT_SOURCE_CHANGE;
    node.ioctl(SUBSCRIBE_EVENT, &mut subscription).is_ok()
}

/// Reads the pending events. Returns true when the input signal has changed.
pub(crate) fn source_changed(node: &Node) -> bool {
    let mut changed = false;
    for _ in 0..MAX_EVENTS {
        let mut event = v4l2_event::zeroed();
        if node.ioctl(DQEVENT, &mut event).is_err() {
            break;
        }
        // SAFETY: the kernel wrote the variant of this type of event; it holds integers only.
        let is_other = event.type_ == V4L2_EVENT_SOURCE_CHANGE
            && unsafe { event.u.src_change.changes } & V4L2_EVENT_SRC_CH_RESOLUTION != 0;
        changed |= is_other;
    }
    changed
}

/// Sets an input with a signal of its own, such as HDMI, to the present signal; otherwise it would keep the size of the
/// last one. Webcams refuse the query and are left alone.
pub(crate) fn adopt_signal(node: &Node) {
    let mut timings = v4l2_dv_timings::zeroed();
    let adopted = node.ioctl(QUERY_DV_TIMINGS, &mut timings).map(|()| node.ioctl(S_DV_TIMINGS, &mut timings));
    if let Ok(Err(error)) = adopted {
        log::debug!("{}: its input signal cannot be adopted: {error}", node.capability().identity.card);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn ioctl_numbers_are_those_of_the_kernel() {
        // As shown by `strace`.
        assert_eq!((DQEVENT, SUBSCRIBE_EVENT), (0x8088_5659, 0x4020_565a));
        assert_eq!((S_DV_TIMINGS, QUERY_DV_TIMINGS), (0xc084_5657, 0x8084_5663));
    }
}
