//! Tests of a camera on the fake backend: every failure, and what it costs.

use std::cell::Cell;
use std::iter;

use crate::capture::jpeg::samples::jpeg;
use crate::capture::v4l2::fake_backend::{Act, BUFFERS, DELAY_US, FakeBackend, PERIOD_US, grey, mode};
use anyhow::Result;
use faceptor_test_support::check;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};

use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::v4l2::camera::Camera;

type Test = Result<()>;

fn grey_camera() -> Result<(Camera<FakeBackend>, FakeBackend)> {
    let fake = FakeBackend::new(mode(b"GREY", [8, 4]));
    Ok((Camera::with(fake.clone(), false)?, fake))
}

fn frame(camera: &mut Camera<FakeBackend>) -> Stamp {
    match camera.poll(u64::MAX) {
        Ok(Poll::Frame(stamp)) => stamp,
        other => panic!("{other:?}"),
    }
}

/// Returns the value that the fake camera wrote into the shown frame.
fn shown(camera: &Camera<FakeBackend>) -> u8 {
    camera.view().bytes()[0]
}

#[test]
fn frames_arrive_in_order_with_their_capture_times() -> Test {
    let (mut camera, fake) = grey_camera()?;
    for number in 0..20u64 {
        let stamp = frame(&mut camera);
        assert_eq!((stamp.sequence, shown(&camera)), (number, number as u8));
        assert_eq!(stamp.captured_us, 1_000_000 + number * PERIOD_US);
        assert_eq!(fake.world().now_us, stamp.captured_us + DELAY_US);
    }
    assert_eq!(camera.counters(), SourceCounters { frames: 20, ..SourceCounters::default() });
    assert_eq!((camera.period_us(), camera.describe()), (Some(40_000), "fake: GREY 8 x 4, 25 frames/s".to_owned()));
    Ok(())
}

#[test]
fn newest_frame_is_shown() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.pass_us(2 * PERIOD_US);
    let stamp = frame(&mut camera);
    assert_eq!((stamp.sequence, stamp.stale_dropped, shown(&camera)), (2, 1, 2));
    // Every buffer is used again: no frame is lost over many slow rounds.
    for _ in 0..50 {
        fake.pass_us(2 * PERIOD_US);
        frame(&mut camera);
    }
    assert_eq!((camera.counters().sequence_gaps, camera.counters().stale_dropped), (0, 51));
    Ok(())
}

#[test]
fn stale_queue_is_dropped_for_a_fresh_frame() -> Test {
    let (mut camera, fake) = grey_camera()?;
    for _ in 0..3 {
        frame(&mut camera);
    }
    // Three buffers fill up, then the camera stops; their frames are stale.
    fake.pass_us(20 * PERIOD_US);
    let stamp = frame(&mut camera);
    assert!(fake.world().now_us - stamp.captured_us <= DELAY_US, "{stamp:?}");
    assert_eq!(camera.counters().stale_dropped, 3);
    assert_eq!(camera.counters().sequence_gaps, stamp.sequence - 2 - 1 - 3);
    Ok(())
}

#[test]
fn poll_returns_nothing_when_the_time_is_up() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    let now = fake.world().now_us;
    assert_eq!(camera.poll(now + 5000)?, Poll::Nothing);
    assert_eq!(fake.world().now_us, now + 5000);
    assert_eq!(camera.poll(0)?, Poll::Nothing, "a time in the past");
    assert_eq!(frame(&mut camera).sequence, 1);
    Ok(())
}

#[test]
fn flagged_frames_are_skipped_and_their_buffers_returned() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.script(iter::repeat_n(Act::Flagged, 10));
    let stamp = frame(&mut camera);
    assert_eq!((stamp.sequence, camera.counters().flagged, camera.counters().sequence_gaps), (11, 10, 0));
    Ok(())
}

#[test]
fn camera_with_only_damaged_frames_is_restarted() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.script(iter::repeat_n(Act::Flagged, 52));
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (2, 1));
    Ok(())
}

#[test]
fn missing_frames_are_counted_as_gaps() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.script(iter::repeat_n(Act::Lost, 3));
    assert_eq!(frame(&mut camera).sequence, 4);
    assert_eq!((camera.counters().sequence_gaps, fake.world().opened), (3, 1));
    Ok(())
}

#[test]
fn refused_buffers_are_offered_again() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.world().refuse_buffers.push_back(libc::EINVAL);
    for _ in 0..10 {
        frame(&mut camera);
    }
    assert_eq!((camera.counters().requeue_errors, camera.counters().reopened), (1, 0));
    assert_eq!(camera.counters().sequence_gaps, 0);
    assert!(camera.unreturned.is_empty());
    // When every buffer is refused, the stream is restarted.
    fake.world().refuse_buffers.extend([libc::EINVAL; 60]);
    for _ in 0..10 {
        frame(&mut camera);
    }
    assert_eq!((camera.counters().reopened, fake.world().opened), (1, 2));
    Ok(())
}

#[test]
fn failed_stream_is_restarted_at_once() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.script([Act::Fail(libc::EIO)]);
    let before = fake.world().now_us;
    let stamp = frame(&mut camera);
    assert_eq!(stamp.sequence, 1, "the count continues although the driver starts from 0");
    assert_eq!((camera.counters().io_errors, camera.counters().reopened, camera.counters().sequence_gaps), (1, 1, 0));
    assert!(fake.world().now_us - before <= PERIOD_US + 2 * DELAY_US);
    Ok(())
}

#[test]
fn silent_stream_is_restarted_after_the_patience() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.script([Act::Hang]);
    let before = fake.world().now_us;
    assert_eq!(camera.poll(before + 900_000)?, Poll::Nothing);
    assert_eq!(camera.counters().timeouts, 0, "not yet");
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (2, 1));
    let took = fake.world().now_us - before;
    assert!((2_000_000..2_100_000).contains(&took), "{took}");
    // The next silence has the same patience.
    fake.script([Act::Hang]);
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (4, 2));
    Ok(())
}

#[test]
fn unplugged_camera_is_reopened_with_growing_pauses() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.script([Act::Fail(libc::ENODEV)]);
    fake.world().refuse_open.extend(["no camera there"; 8]);
    let lost_us = fake.world().now_us + PERIOD_US;
    // Until the camera is back, polls end in time without a frame.
    assert_eq!(camera.poll(lost_us + 250_000)?, Poll::Nothing);
    assert_eq!(fake.world().now_us, lost_us + 250_000);
    assert_eq!((camera.view().width(), camera.counters().lost), (1, 1));
    assert_eq!(camera.scene(), 0);
    let stamp = frame(&mut camera);
    assert_eq!((stamp.sequence, camera.counters().reopened), (1, 1));
    assert_eq!(camera.scene(), 1, "tracks end: there may be another person before it");
    let times = fake.world().open_times_us.clone();
    let pauses: Vec<u64> = times[1..].windows(2).map(|pair| (pair[1] - pair[0]) / 100_000).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20, 20]);
    Ok(())
}

#[test]
fn format_changed_by_another_program_is_adopted() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    // Another program sets another format, whose frames are too short for the agreed one.
    let other = mode(b"GREY", [4, 2]);
    fake.script([grey(9, &other)]);
    fake.world().other_format = true;
    fake.world().mode = other;
    frame(&mut camera);
    let view = camera.view();
    assert_eq!((view.width(), view.height()), (4, 2));
    let counters = camera.counters();
    assert_eq!((counters.format_changes, counters.decode_errors, counters.reopened), (1, 1, 1));
    Ok(())
}

#[test]
fn changed_input_signal_restarts_the_stream_at_once() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    let before = fake.world().now_us;
    fake.world().mode = mode(b"GREY", [4, 2]);
    fake.world().source_changed = true;
    let stamp = frame(&mut camera);
    assert_eq!((camera.view().width(), camera.view().height(), stamp.sequence), (4, 2, 1));
    let counters = camera.counters();
    assert_eq!((counters.format_changes, counters.reopened), (1, 1));
    assert_eq!((counters.decode_errors, counters.timeouts, counters.io_errors), (0, 0, 0), "the event was enough");
    assert!(fake.world().now_us - before <= PERIOD_US + DELAY_US);
    // Frames that were filled before the event belong to the old signal and are dropped.
    fake.pass_us(2 * PERIOD_US);
    fake.world().mode = mode(b"GREY", [8, 4]);
    fake.world().source_changed = true;
    frame(&mut camera);
    assert_eq!((camera.view().width(), camera.counters().format_changes, camera.counters().decode_errors), (8, 2, 0));
    Ok(())
}

#[test]
fn silent_camera_with_another_format_is_restarted_at_once() -> Test {
    let (mut camera, fake) = grey_camera()?;
    frame(&mut camera);
    fake.script([Act::Hang]);
    fake.world().other_format = true;
    frame(&mut camera);
    assert_eq!((camera.counters().timeouts, camera.counters().reopened), (0, 1));
    Ok(())
}

#[test]
fn short_frames_are_skipped() -> Test {
    let (mut camera, fake) = grey_camera()?;
    fake.script([Act::Frame(vec![0; 31]), Act::Frame(Vec::new())]);
    assert_eq!((frame(&mut camera).sequence, camera.counters().decode_errors), (2, 2));
    assert_eq!(fake.world().opened, 1);
    Ok(())
}

#[test]
fn frames_without_driver_times_are_stamped_on_arrival() -> Test {
    let (mut camera, fake) = grey_camera()?;
    fake.world().monotonic = false;
    let stamp = frame(&mut camera);
    assert_eq!(stamp.captured_us, fake.world().now_us);
    Ok(())
}

#[test]
fn jpegs_are_decoded_and_damaged_ones_skipped() -> Test {
    let fake = FakeBackend::new(mode(b"MJPG", [64, 48]));
    let mut camera = Camera::with(fake.clone(), false)?;
    let good = jpeg(64, 48, 180);
    fake.script([
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
fn exit_on_lost_reports_the_loss_on_every_poll() -> Test {
    let fake = FakeBackend::new(mode(b"GREY", [8, 4]));
    let mut camera = Camera::with(fake.clone(), true)?;
    frame(&mut camera);
    fake.script([Act::Fail(libc::ENODEV)]);
    for _ in 0..2 {
        let error = camera.poll(u64::MAX).expect_err("it is gone");
        assert!(matches!(error, SourceError::Lost { .. }), "{error:?}");
        assert_eq!(error.to_string(), "fake: the camera is gone");
    }
    assert_eq!((fake.world().opened, camera.counters().lost), (1, 1));
    Ok(())
}

#[test]
fn failure_of_the_first_open_is_an_error() {
    let fake = FakeBackend::new(mode(b"GREY", [8, 4]));
    fake.world().refuse_open.push_back("no permission");
    let error = Camera::with(fake, false).err().map(|error| format!("{error:#}"));
    assert_eq!(error.as_deref(), Some("camera fake: no permission"));
}

/// A fault that strikes the camera before a poll.
#[derive(Clone, Debug)]
enum Fault {
    None,
    Acts(Vec<Act>),
    GoneAndRefused(usize),
    BuffersRefused(usize),
    SourceChanged,
    Pause(u64),
}

/// Yields every fault once in sixty polls, on average.
fn faults() -> impl Strategy<Value = Fault> {
    let repeated = |act: Act| (0..9usize).prop_map(move |count| Fault::Acts(vec![act.clone(); count]));
    prop_oneof![
        51 => Just(Fault::None),
        1 => Just(Fault::Acts(vec![Act::Hang])),
        1 => Just(Fault::Acts(vec![Act::Fail(libc::EIO)])),
        1 => (0..5usize).prop_map(Fault::GoneAndRefused),
        1 => repeated(Act::Flagged),
        1 => repeated(Act::Lost),
        1 => (0..3 * BUFFERS).prop_map(Fault::BuffersRefused),
        1 => Just(Fault::Acts(vec![grey(1, &mode(b"GREY", [4, 2]))])),
        1 => Just(Fault::SourceChanged),
        1 => (0..1_000_000u64).prop_map(Fault::Pause),
    ]
}

/// Applies random faults: time goes on, no buffer is given back twice (the fake panics), and frames return.
#[test]
fn camera_survives_any_mixture_of_faults() {
    let totals = Cell::new(SourceCounters::default());
    check(40, vec((faults(), 0..100_000u64), 1000), |polls| {
        let (mut camera, fake) = grey_camera().expect("it opens");
        for (fault, wait_us) in polls {
            // One fault at a time; with all of them at once no frame would ever arrive.
            let is_free = fake.world().script.is_empty();
            match fault {
                _ if !is_free => {}
                Fault::None => {}
                Fault::Acts(acts) => fake.script(acts),
                Fault::GoneAndRefused(times) => {
                    fake.script([Act::Fail(libc::ENODEV)]);
                    fake.world().refuse_open.extend(iter::repeat_n("away", times));
                }
                Fault::BuffersRefused(times) => {
                    fake.world().refuse_buffers.extend(iter::repeat_n(libc::EINVAL, times));
                }
                Fault::SourceChanged => fake.world().source_changed = true,
                Fault::Pause(us) => fake.pass_us(us),
            }
            let before = fake.world().now_us;
            match camera.poll(before + wait_us).expect("a lost camera is waited for") {
                Poll::Frame(_) => assert_eq!(camera.view().width(), 8),
                Poll::Nothing => {}
                Poll::Ended => panic!("a camera does not end"),
            }
        }
        fake.world().script.clear();
        fake.world().refuse_buffers.clear();
        let last = frame(&mut camera).sequence;
        assert_eq!(frame(&mut camera).sequence, last + 1);
        let (counters, before) = (camera.counters(), totals.get());
        totals.set(SourceCounters {
            frames: before.frames + counters.frames,
            reopened: before.reopened + counters.reopened,
            flagged: before.flagged + counters.flagged,
            ..before
        });
    });
    let counters = totals.get();
    assert!(counters.frames > 3000 && counters.reopened > 50 && counters.flagged > 50, "{counters:?}");
}
