//! Memory for the pixels of frames that are shown: the loop copies a frame, and the outputs share the copy.

use std::sync::Arc;

use faceptor::stages::{ImageView, OwnedFrame};

/// Frames kept for those who watch: a fixed number, lent out and used again when everybody has given one back.
pub struct FramePool {
    stills: Vec<Arc<OwnedFrame>>,
}

impl FramePool {
    /// So many frames of so many bytes each.
    pub fn new(count: usize, bytes: usize) -> FramePool {
        FramePool { stills: (0..count).map(|_| Arc::new(OwnedFrame::with_capacity(bytes))).collect() }
    }

    /// Copies a frame into a spare still. `None` when none is spare: the frame is shown nowhere then. Allocates nothing
    /// as long as frames do not get larger.
    pub fn keep(&mut self, view: &ImageView) -> Option<Arc<OwnedFrame>> {
        let spare = self.stills.iter_mut().find(|still| Arc::strong_count(still) == 1)?;
        Arc::get_mut(spare)?.copy_from(view);
        Some(spare.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::{Picture, Pixels};

    #[test]
    fn stills_are_lent_and_used_again() {
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
