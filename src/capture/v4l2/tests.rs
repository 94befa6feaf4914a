//! A camera against the model: everything that goes wrong, and what it costs.

use std::iter;

use crate::capture::jpeg::samples::jpeg;
use crate::capture::v4l2::fake_backend::{Act, BUFFERS, DELAY_US, FakeBackend, PERIOD_US, grey, mode};
use crate::capture::v4l2::*;

type Test = Result<()>;

fn grey_camera() -> Result<(Camera<FakeBackend>, FakeBackend)> {
    let model = FakeBackend::new(mode(b"GREY", [8, 4]));
    Ok((Camera::with(model.clone(), false)?, model))
}

fn frame(camera: &mut Camera<FakeBackend>) -> Stamp {
    match camera.poll(u64::MAX) {
        Ok(Poll::Frame(stamp)) => stamp,
        other => panic!("{other:?}"),
    }
}

/// The value that the model wrote into the shown frame.
fn shown(camera: &Camera<FakeBackend>) -> u8 {
    camera.view().bytes()[0]
}

#[test]
fn frames_come_in_order_with_the_time_at_which_they_were_taken() -> Test {
    let (mut camera, model) = grey_camera()?;
    for number in 0..20u64 {
        let stamp = frame(&mut camera);
        assert_eq!((stamp.sequence, shown(&camera)), (number, number as u8));
        assert_eq!(stamp.captured_us, 1_000_000 + number * PERIOD_US);
        assert_eq!(model.world().now_us, stamp.captured_us + DELAY_US);
    }
    assert_eq!(camera.counters(), SourceCounters { frames: 20, ..SourceCounters::default() });
    assert_eq!((camera.period_us(), camera.describe()), (Some(40_000), "model: GREY 8 x 4, 25 frames/s".to_owned()));
    Ok(())
}

#[test]
fn the_newest_frame_wins() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.pass_us(2 * PERIOD_US);
    let stamp = frame(&mut camera);
    assert_eq!((stamp.sequence, stamp.stale_dropped, shown(&camera)), (2, 1, 2));
    // Every buffer went round: nothing is lost over many slow frames.
    for _ in 0..50 {
        model.pass_us(2 * PERIOD_US);
        frame(&mut camera);
    }
    assert_eq!((camera.counters().sequence_gaps, camera.counters().stale_dropped), (0, 51));
    Ok(())
}

#[test]
fn a_loop_that_was_away_for_long_gets_a_fresh_frame() -> Test {
    let (mut camera, model) = grey_camera()?;
    for _ in 0..3 {
        frame(&mut camera);
    }
    // Three buffers fill and the camera must stop; their frames are old news by then.
    model.pass_us(20 * PERIOD_US);
    let stamp = frame(&mut camera);
    assert!(model.world().now_us - stamp.captured_us <= DELAY_US, "{stamp:?}");
    assert_eq!(camera.counters().stale_dropped, 3);
    assert_eq!(camera.counters().sequence_gaps, stamp.sequence - 2 - 1 - 3);
    Ok(())
}

#[test]
fn no_frame_until_the_time_is_up_is_nothing() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    let now = model.world().now_us;
    assert_eq!(camera.poll(now + 5000)?, Poll::Nothing);
    assert_eq!(model.world().now_us, now + 5000);
    assert_eq!(camera.poll(0)?, Poll::Nothing, "a time that is past");
    assert_eq!(frame(&mut camera).sequence, 1);
    Ok(())
}

#[test]
fn a_flagged_frame_is_passed_over_and_its_buffer_goes_back() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.script(iter::repeat_n(Act::Flagged, 10));
    let stamp = frame(&mut camera);
    assert_eq!((stamp.sequence, camera.counters().flagged, camera.counters().sequence_gaps), (11, 10, 0));
    Ok(())
}

#[test]
fn a_camera_with_nothing_but_damaged_frames_is_started_again() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.script(iter::repeat_n(Act::Flagged, 52));
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (2, 1));
    Ok(())
}

#[test]
fn frames_that_never_arrive_are_gaps() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.script(iter::repeat_n(Act::Lost, 3));
    assert_eq!(frame(&mut camera).sequence, 4);
    assert_eq!((camera.counters().sequence_gaps, model.world().opened), (3, 1));
    Ok(())
}

#[test]
fn a_buffer_that_is_not_taken_is_offered_again() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.world().refuse_buffers.push_back(libc::EINVAL);
    for _ in 0..10 {
        frame(&mut camera);
    }
    assert_eq!((camera.counters().requeue_errors, camera.counters().reopened), (1, 0));
    assert_eq!(camera.counters().sequence_gaps, 0);
    assert!(camera.unreturned.is_empty());
    // With every buffer refused there is no stream any more: it is started again.
    model.world().refuse_buffers.extend([libc::EINVAL; 60]);
    for _ in 0..10 {
        frame(&mut camera);
    }
    assert_eq!((camera.counters().reopened, model.world().opened), (1, 2));
    Ok(())
}

#[test]
fn a_stream_that_fails_is_started_again_at_once() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.script([Act::Fail(libc::EIO)]);
    let before = model.world().now_us;
    let stamp = frame(&mut camera);
    assert_eq!(stamp.sequence, 1, "our count goes on where the driver begins again");
    assert_eq!((camera.counters().io_errors, camera.counters().reopened, camera.counters().sequence_gaps), (1, 1, 0));
    assert!(model.world().now_us - before <= PERIOD_US + 2 * DELAY_US);
    Ok(())
}

#[test]
fn silence_is_waited_out_and_then_the_stream_is_started_again() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.script([Act::Hang]);
    let before = model.world().now_us;
    assert_eq!(camera.poll(before + 900_000)?, Poll::Nothing);
    assert_eq!(camera.counters().timeouts, 0, "not yet");
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (2, 1));
    let took = model.world().now_us - before;
    assert!((2_000_000..2_100_000).contains(&took), "{took}");
    // Well again: the next hang has the same patience.
    model.script([Act::Hang]);
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (4, 2));
    Ok(())
}

#[test]
fn an_unplugged_camera_is_waited_for_with_growing_pauses() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.script([Act::Fail(libc::ENODEV)]);
    model.world().refuse_open.extend(["no camera there"; 8]);
    let lost_us = model.world().now_us + PERIOD_US;
    // Until it is back the loop gets nothing, in time.
    assert_eq!(camera.poll(lost_us + 250_000)?, Poll::Nothing);
    assert_eq!(model.world().now_us, lost_us + 250_000);
    assert_eq!((camera.view().width(), camera.counters().lost), (1, 1));
    let stamp = frame(&mut camera);
    assert_eq!((stamp.sequence, camera.counters().reopened), (1, 1));
    let times = model.world().open_times_us.clone();
    let pauses: Vec<u64> = times[1..].windows(2).map(|pair| (pair[1] - pair[0]) / 100_000).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20, 20]);
    Ok(())
}

#[test]
fn a_camera_that_returns_in_another_format_is_read_in_it() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    // Somebody sets another format: frames are too short, then, for the one that was agreed.
    let other = mode(b"GREY", [4, 2]);
    model.script([grey(9, &other)]);
    model.world().other_format = true;
    model.world().mode = other;
    frame(&mut camera);
    let view = camera.view();
    assert_eq!((view.width(), view.height()), (4, 2));
    let counters = camera.counters();
    assert_eq!((counters.format_changes, counters.decode_errors, counters.reopened), (1, 1, 1));
    Ok(())
}

#[test]
fn a_camera_that_tells_of_another_signal_is_started_again_at_once() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    let before = model.world().now_us;
    model.world().mode = mode(b"GREY", [4, 2]);
    model.world().source_changed = true;
    let stamp = frame(&mut camera);
    assert_eq!((camera.view().width(), camera.view().height(), stamp.sequence), (4, 2, 1));
    let counters = camera.counters();
    assert_eq!((counters.format_changes, counters.reopened), (1, 1));
    assert_eq!((counters.decode_errors, counters.timeouts, counters.io_errors), (0, 0, 0), "nobody had to guess");
    assert!(model.world().now_us - before <= PERIOD_US + DELAY_US);
    // Frames that were filled before are of the old signal: they are not looked at.
    model.pass_us(2 * PERIOD_US);
    model.world().mode = mode(b"GREY", [8, 4]);
    model.world().source_changed = true;
    frame(&mut camera);
    assert_eq!((camera.view().width(), camera.counters().format_changes, camera.counters().decode_errors), (8, 2, 0));
    Ok(())
}

#[test]
fn a_silent_camera_with_another_format_is_started_again_at_once() -> Test {
    let (mut camera, model) = grey_camera()?;
    frame(&mut camera);
    model.script([Act::Hang]);
    model.world().other_format = true;
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (0, 1));
    Ok(())
}

#[test]
fn a_short_frame_is_passed_over() -> Test {
    let (mut camera, model) = grey_camera()?;
    model.script([Act::Frame(vec![0; 31]), Act::Frame(Vec::new())]);
    assert_eq!((frame(&mut camera).sequence, camera.counters().decode_errors), (2, 2));
    assert_eq!(model.world().opened, 1);
    Ok(())
}

#[test]
fn without_times_of_the_driver_frames_are_stamped_when_they_arrive() -> Test {
    let (mut camera, model) = grey_camera()?;
    model.world().monotonic = false;
    let stamp = frame(&mut camera);
    assert_eq!(stamp.captured_us, model.world().now_us);
    Ok(())
}

#[test]
fn jpegs_are_decoded_and_damaged_ones_passed_over() -> Test {
    let model = FakeBackend::new(mode(b"MJPG", [64, 48]));
    let mut camera = Camera::with(model.clone(), false)?;
    let good = jpeg(64, 48, 180);
    model.script([
        Act::Frame(good.clone()),
        Act::Frame(good[..good.len() / 2].to_vec()),
        Act::Frame(b"no jpeg".to_vec()),
        Act::Frame(good.clone()),
        Act::Frame(jpeg(32, 16, 20)),
    ]);
    assert_eq!(frame(&mut camera).sequence, 0);
    assert!(camera.view().bytes()[0].abs_diff(180) < 8);
    assert_eq!((frame(&mut camera).sequence, camera.counters().decode_errors), (3, 2));
    frame(&mut camera);
    assert_eq!((camera.view().width(), camera.view().height()), (32, 16));
    Ok(())
}

#[test]
fn who_wants_to_know_of_a_loss_is_told_and_stays_told() -> Test {
    let model = FakeBackend::new(mode(b"GREY", [8, 4]));
    let mut camera = Camera::with(model.clone(), true)?;
    frame(&mut camera);
    model.script([Act::Fail(libc::ENODEV)]);
    for _ in 0..2 {
        let error = camera.poll(u64::MAX).expect_err("it is gone");
        assert!(matches!(error, SourceError::Lost { .. }), "{error:?}");
        assert_eq!(error.to_string(), "model: the camera is gone");
    }
    assert_eq!((model.world().opened, camera.counters().lost), (1, 1));
    Ok(())
}

#[test]
fn what_cannot_be_opened_at_first_is_an_error() {
    let model = FakeBackend::new(mode(b"GREY", [8, 4]));
    model.world().refuse_open.push_back("no permission");
    let error = Camera::with(model, false).err().map(|error| format!("{error:#}"));
    assert_eq!(error.as_deref(), Some("camera model: no permission"));
}

/// Any mixture of faults: time goes on, no buffer is given back twice (the model panics), and frames come again.
#[test]
fn no_mixture_of_faults_ends_the_stream() -> Test {
    let (mut camera, model) = grey_camera()?;
    let mut state = 7u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let small = mode(b"GREY", [4, 2]);
    for _ in 0..40_000 {
        // One fault after the other: with all of them at once no frame would ever come.
        let fault = if model.world().script.is_empty() { random(60) } else { u32::MAX };
        match fault {
            0 => model.script([Act::Hang]),
            1 => model.script([Act::Fail(libc::EIO)]),
            2 => {
                model.script([Act::Fail(libc::ENODEV)]);
                model.world().refuse_open.extend(iter::repeat_n("away", random(5) as usize));
            }
            3 => model.script(iter::repeat_n(Act::Flagged, random(9) as usize)),
            4 => model.script(iter::repeat_n(Act::Lost, random(9) as usize)),
            5 => model.world().refuse_buffers.extend(iter::repeat_n(libc::EINVAL, random(BUFFERS as u32 * 3) as usize)),
            6 => model.script([grey(1, &small)]),
            8 => model.world().source_changed = true,
            7 => model.pass_us(u64::from(random(1_000_000))),
            _ => {}
        }
        let before = model.world().now_us;
        match camera.poll(before + u64::from(random(100_000)))? {
            Poll::Frame(_) => assert_eq!(camera.view().width(), 8),
            Poll::Nothing => {}
            Poll::Ended => panic!("a camera does not end"),
        }
    }
    model.world().script.clear();
    model.world().refuse_buffers.clear();
    let last = frame(&mut camera).sequence;
    assert_eq!(frame(&mut camera).sequence, last + 1);
    let counters = camera.counters();
    assert!(counters.frames > 3000 && counters.reopened > 50 && counters.flagged > 50, "{counters:?}");
    Ok(())
}
