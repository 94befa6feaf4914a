//! Tests of the comparison of photos: sets of photos of one person, of many people, and mixtures of both.

use faceptor_gallery::{
    Details, Gallery, ImpostorScores, KeySource, Network, PassphraseCost, StoredTemplate, Template,
};
use faceptor_test_support::Folder;

use crate::PLATFORM;
use crate::enrolment::{Candidate, Limits, compare};

const DIMENSION: usize = 32;
const NOW: u64 = 1_800_000_000;

/// Makes the photos of people: templates about as similar to each other as those of a network.
struct Photos(u64);

impl Photos {
    /// Returns a number between -1 and 1 whose distribution is a bell.
    fn number(&mut self) -> f32 {
        let mut uniform = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..6).map(|_| uniform()).sum::<f32>() / 3.0 - 1.0
    }

    /// Returns a vector of length 1; two of them have a similarity of 0 with a deviation of 0.18.
    fn direction(&mut self) -> Vec<f32> {
        let numbers: Vec<f32> = (0..DIMENSION).map(|_| self.number()).collect();
        let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
        numbers.iter().map(|number| number / length).collect()
    }

    /// Returns photos of a person; two of them have a similarity of about 0.6.
    fn person(&mut self, count: usize) -> Vec<Candidate> {
        let face = self.direction();
        (0..count)
            .map(|_| {
                let noise = self.direction();
                let numbers: Vec<f32> =
                    face.iter().zip(noise).map(|(a, b)| a * 0.6f32.sqrt() + b * 0.4f32.sqrt()).collect();
                candidate(&numbers)
            })
            .collect()
    }

    /// Returns a photo of each of so many people.
    fn people(&mut self, count: usize) -> Vec<Candidate> {
        (0..count).flat_map(|_| self.person(1)).collect()
    }
}

fn candidate(numbers: &[f32]) -> Candidate {
    let template = Template::of(numbers, DIMENSION).expect("a direction");
    let stored = StoredTemplate { template, added_at: NOW, eyes_px: 60.0, forced: Vec::new(), crop: None };
    Candidate { stored, reasons: Vec::new(), is_known: false }
}

/// The scores of different people: the quantiles of a normal distribution with this deviation.
fn table() -> ImpostorScores {
    let rates = [1e-1, 5e-2, 1e-2, 1e-3, 1e-4, 1e-5];
    let scores = [1.282, 1.645, 2.326, 3.090, 3.719, 4.265].map(|deviations| deviations * 0.177);
    ImpostorScores::new(&rates, &scores).expect("a table")
}

/// Compares the photos. Returns how many of the first `own` were refused, and how many of the others were not.
fn outcome(mut photos: Vec<Candidate>, own: usize, gallery: Option<&Gallery>) -> (usize, usize) {
    let table = table();
    let limits = Limits::of(Some(&table), 0.01, None, 1);
    compare(&mut photos, gallery, "Ada", limits, NOW);
    let is_refused = |photo: &&Candidate| photo.reasons == ["unlike_other_photos"];
    let (first, others) = photos.split_at(own);
    (first.iter().filter(is_refused).count(), others.iter().filter(|photo| photo.reasons.is_empty()).count())
}

/// Compares sets of `own` photos of a person and `foreign` ones, each of another person. Returns the shares of the own ones that
/// are refused and of the foreign ones that are not.
fn shares(own: usize, foreign: usize, sets: usize) -> (f64, f64) {
    let mut photos = Photos(own as u64 * 1000 + foreign as u64);
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..sets {
        let mut set = photos.person(own);
        set.extend(photos.people(foreign));
        let (more_refused, more_accepted) = outcome(set, own, None);
        (refused, accepted) = (refused + more_refused, accepted + more_accepted);
    }
    (refused as f64 / (own * sets) as f64, accepted as f64 / (foreign * sets) as f64)
}

#[test]
fn many_people_are_not_taken_for_one() {
    for people in [4, 5, 7, 10, 20, 50] {
        let (_, accepted) = shares(0, people, 20);
        assert!(accepted < 0.02, "{people} people: {accepted}");
    }
    assert_eq!(shares(0, 400, 1).1, 0.0, "400 people");
    // Two and three photos show little: one pair in twenty is alike, and one set of three in twenty has such a pair.
    let (two, three) = (shares(0, 2, 400).1, shares(0, 3, 400).1);
    assert!(two < 0.08 && three < 0.05, "{two} {three}");
}

#[test]
fn the_photos_of_a_person_are_accepted() {
    for own in 2..=20 {
        let (refused, _) = shares(own, 0, 20);
        assert!(refused < 0.03, "{own} photos: {refused}");
    }
    assert_eq!(shares(300, 0, 1).0, 0.0, "300 photos");
}

#[test]
fn foreign_photos_among_a_persons_own_are_refused() {
    for (own, foreign) in [(2, 1), (4, 1), (8, 2), (10, 3), (5, 5), (10, 10), (10, 20), (60, 60)] {
        let (refused, accepted) = shares(own, foreign, 20.max(200 / own));
        assert!(refused < 0.06 && accepted < 0.08, "{own} own, {foreign} foreign: {refused} {accepted}");
    }
}

#[test]
fn two_people_in_one_set_are_both_refused_unless_one_is_the_majority() {
    let mut photos = Photos(7);
    for (first, second, refused) in [(5, 5, 5), (10, 10, 10), (30, 30, 30), (8, 4, 0), (30, 10, 0)] {
        let mut set = photos.person(first);
        set.extend(photos.person(second));
        assert_eq!(outcome(set, first, None), (refused, 0), "{first} of one, {second} of the other");
    }
}

#[test]
fn strangers_are_refused_however_many_templates_a_person_has() {
    let mut photos = Photos(3);
    for templates in [1, 2, 3, 5, 20, 60] {
        let mut ada = photos.person(templates + 20);
        let gallery = gallery(ada.split_off(20), None);
        ada.extend(photos.people(200));
        let (refused, accepted) = outcome(ada, 20, Some(&gallery.1));
        assert!(refused < 2 && accepted < 20, "{templates} templates: {refused} of 20, {accepted} of 200");
    }
}

#[test]
fn a_person_whose_enrolment_is_over_begins_anew() {
    let mut photos = Photos(9);
    let ada = photos.person(3);
    for (expires_at, known) in [(Some(NOW), false), (Some(NOW + 1), true), (None, true)] {
        let gallery = gallery(ada.clone(), expires_at);
        let mut again = ada.clone();
        compare(&mut again, Some(&gallery.1), "Ada", None, NOW);
        assert!(again.iter().all(|photo| photo.is_known == known), "{expires_at:?}");
    }
}

fn gallery(photos: Vec<Candidate>, expires_at: Option<u64>) -> (Folder, Gallery) {
    let folder = Folder::new();
    let network = Network { name: "test".into(), recognition: [7; 32], dimension: DIMENSION };
    let key = KeySource::from_file_content(&std::array::from_fn::<u8, 32, _>(|index| index as u8)).expect("a key");
    let cost = PassphraseCost { memory_kib: 8, passes: 1 };
    let mut gallery =
        Gallery::create(&folder.path().join("g"), &key, &network, cost, PLATFORM, NOW).expect("a new file");
    let (enrolled_by, purpose) = (String::new(), String::new());
    let details = Details { name: "Ada".into(), enrolled_at: NOW, enrolled_by, purpose, expires_at };
    gallery.enrol(details, photos.into_iter().map(|photo| photo.stored).collect(), NOW).expect("enrolled");
    (folder, gallery)
}
