//! Memory for the pixels of frames that are shown: the loop copies a frame, and the outputs share the copy.

use std::sync::Arc;

use faceptor::stages::{ImageView, OwnedFrame};

/// A fixed number of frames. A frame is used again when all outputs have dropped their copies of its handle.
pub struct FramePool {
    frames: Vec<Arc<OwnedFrame>>,
}

impl FramePool {
    /// Allocates `count` frames of `bytes` bytes each.
    pub fn new(count: usize, bytes: usize) -> FramePool {
        FramePool { frames: (0..count).map(|_| Arc::new(OwnedFrame::with_capacity(bytes))).collect() }
    }

    /// Copies a frame into a spare one. Returns `None` if none is spare; the frame is then not shown. Allocates only when
    /// frames get larger.
    pub fn keep(&mut self, view: &ImageView) -> Option<Arc<OwnedFrame>> {
        let spare = self.frames.iter_mut().find(|frame| Arc::strong_count(frame) == 1)?;
        Arc::get_mut(spare)?.copy_from(view);
        Some(spare.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::{Picture, Pixels};

    #[test]
    fn frames_are_shared_and_used_again() {
        let mut stills = FramePool::new(2, 12);
        let [one, two, three] = [1, 2, 3].map(|value| Picture::filled(2, 2, [value; 3]));
        let first = stills.keep(&one.view()).expect("two are spare");
        let second = stills.keep(&two.view());
        assert!(second.is_some() && stills.keep(&three.view()).is_none());
        let copy = first.clone();
        drop((first, second));
        let third = stills.keep(&three.view()).expect("one came back");
        let colour = |still: &OwnedFrame| {
            let mut picture = Picture::default();
            still.view().to_picture(&mut picture);
            picture.rgb(1, 1)[0]
        };
        assert_eq!((colour(&copy), colour(&third)), (1, 3));
    }
}
