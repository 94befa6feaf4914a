//! What a camera tells beside its frames: that its signal has another size now, as HDMI bridges and capture cards do.
//!
//! The ioctls and their numbers are those of linux/videodev2.h; the `v4l` crate has the structures only.

use v4l::v4l_sys::*;
use v4l::v4l2::vidioc::_IOC_TYPE;

use crate::capture::v4l2::node::{KernelStruct, Node};

const READ: _IOC_TYPE = 2;
const WRITE: _IOC_TYPE = 1;

/// The number of an ioctl of V4L2 whose argument is a `T`.
const fn number<T>(direction: _IOC_TYPE, number: _IOC_TYPE) -> _IOC_TYPE {
    direction << 30 | (size_of::<T>() as _IOC_TYPE) << 16 | (b'V' as _IOC_TYPE) << 8 | number
}

const DQEVENT: _IOC_TYPE = number::<v4l2_event>(READ, 89);
const SUBSCRIBE_EVENT: _IOC_TYPE = number::<v4l2_event_subscription>(WRITE, 90);
const S_DV_TIMINGS: _IOC_TYPE = number::<v4l2_dv_timings>(READ | WRITE, 87);
const QUERY_DV_TIMINGS: _IOC_TYPE = number::<v4l2_dv_timings>(READ, 99);
/// More events than a driver keeps.
const MOST: u32 = 64;

/// Asks to be told of other signals. Webcams have none, which is fine: `false`.
pub(crate) fn subscribe(node: &Node) -> bool {
    let mut subscription = v4l2_event_subscription::zeroed();
    subscription.type_ = V4L2_EVENT_SOURCE_CHANGE;
    node.ioctl(SUBSCRIBE_EVENT, &mut subscription).is_ok()
}

/// Takes what has been told; whether the signal is another one now.
pub(crate) fn source_changed(node: &Node) -> bool {
    let mut changed = false;
    for _ in 0..MOST {
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

/// Sets an input with a signal of its own to the signal that is there; without it, such an input keeps the size of the
/// last one. Cameras have no such thing and say so.
pub(crate) fn adopt_signal(node: &Node) {
    let mut timings = v4l2_dv_timings::zeroed();
    let adopted = node.ioctl(QUERY_DV_TIMINGS, &mut timings).map(|()| node.ioctl(S_DV_TIMINGS, &mut timings));
    if let Ok(Err(error)) = adopted {
        log::debug!("{}: its signal cannot be adopted: {error}", node.identity().card);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn the_numbers_are_the_kernel_s() {
        // As `strace` shows them.
        assert_eq!((DQEVENT, SUBSCRIBE_EVENT), (0x8088_5659, 0x4020_565a));
        assert_eq!((S_DV_TIMINGS, QUERY_DV_TIMINGS), (0xc084_5657, 0x8084_5663));
    }
}
