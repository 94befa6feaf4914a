//! Finds the photos of a set that show one person.

use faceptor_gallery::{ImpostorScores, Template};

/// Share of pairs of different people that pass as one person's. About one in forty pairs of one person does not pass.
const RATE_OF_LIKE: f64 = 0.05;
/// More than half of a set are hardly alike by chance; beyond this rate their likeness needs no further proof.
const RATE_OF_MAJORITY: f64 = 1e-3;
/// Smallest core that is less than half of the set.
const LEAST_MINORITY: usize = 3;
/// A core is at least so many times as large as the next group: a few strangers pass, which would decide between two people.
const OVER_NEXT: f32 = 1.5;
/// Rounds in which a group settles; then it is taken as it is.
const ROUNDS: usize = 8;

/// The similarities that decide on the photos of an enrolment.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Photos of one person have at least this similarity.
    pub like: f32,
    /// Photos of different people have less than this.
    pub other: f32,
    /// Scores of pairs of different people, if they were measured.
    impostors: Option<&'a ImpostorScores>,
}

impl<'a> Limits<'a> {
    /// Returns the limits of a network for a gallery with this many templates; `threshold` is the user's, in place of the
    /// table's. `None` if neither is given: photos are not compared then.
    pub fn of(
        impostors: Option<&'a ImpostorScores>,
        fpir: f64,
        threshold: Option<f32>,
        comparisons: usize,
    ) -> Option<Limits<'a>> {
        let like = impostors.map(|table| table.score_at(RATE_OF_LIKE));
        let other = threshold.or_else(|| impostors.map(|table| table.threshold(fpir, comparisons)))?;
        Some(Limits {
            like: like.map_or(other, |like| threshold.map_or(like, |other| like.min(other))),
            other,
            impostors,
        })
    }

    /// Returns the similarity that a pair of different people reaches in one of twenty sets of so many photos, or with
    /// probability `least` if that is more.
    fn proof(&self, photos: usize, least: f64) -> f32 {
        let pairs = photos as f64 * (photos as f64 - 1.0) / 2.0;
        let rate = (RATE_OF_LIKE / pairs.max(1.0)).max(least);
        self.impostors.map_or(self.like, |table| table.score_at(rate).max(self.like))
    }
}

/// Templates to compare with each other, by place.
pub(crate) struct PhotoSet {
    /// Vectors of length 1.
    directions: Vec<Vec<f32>>,
}

impl PhotoSet {
    pub fn of<'a>(templates: impl Iterator<Item = &'a Template>) -> PhotoSet {
        let direction = |template: &Template| {
            let numbers = template.numbers().iter().map(|&number| f32::from(number));
            let length = numbers.clone().map(|number| number * number).sum::<f32>().sqrt().max(1.0);
            numbers.map(|number| number / length).collect()
        };
        PhotoSet { directions: templates.map(direction).collect() }
    }

    fn similarity(&self, a: usize, b: usize) -> f32 {
        self.directions[a].iter().zip(&self.directions[b]).map(|(a, b)| a * b).sum()
    }

    /// Reports whether the median of a photo's similarities to the other photos of a core reaches a limit. A photo that is
    /// the whole core is like it.
    ///
    /// One similar photo does not suffice: among many photos each stranger is similar to one.
    pub fn is_like(&self, photo: usize, core: &[usize], limit: f32) -> bool {
        let others = core.iter().filter(|&&other| other != photo);
        let mut scores: Vec<f32> = others.map(|&other| self.similarity(photo, other)).collect();
        let middle = scores.len() / 2;
        if scores.is_empty() {
            return true;
        }
        let is_even = scores.len().is_multiple_of(2);
        let (below, &mut upper, _) = scores.select_nth_unstable_by(middle, f32::total_cmp);
        let lower = if is_even { below.iter().copied().fold(f32::MIN, f32::max) } else { upper };
        (lower + upper) / 2.0 >= limit
    }

    /// Returns the photos among these that stand for the person; `None` where no group does.
    ///
    /// That is more than half of them that are alike, or the largest group; a second group of about its size may be the person
    /// as well, and then neither is. Some of its photos are more alike than chance explains in a set of this size: among three
    /// photos of three people two are alike in one set of seven, and among a thousand each photo is like fifty others.
    pub fn core(&self, among: &[usize], limits: &Limits) -> Option<Vec<usize>> {
        if among.len() < 2 {
            return Some(among.to_vec());
        }
        let majority = self.group(among, limits.like, limits.like);
        if majority.len() > among.len() / 2 {
            let proof = limits.proof(among.len(), RATE_OF_MAJORITY);
            let is_proven = self.most_links(&majority, proof) > 0;
            return (is_proven && self.is_clear(&majority, among, limits.like, limits.like)).then_some(majority);
        }
        let proof = limits.proof(among.len(), 0.0);
        let largest = self.group(among, proof, limits.like);
        let is_proven = largest.len() >= LEAST_MINORITY && self.most_links(&largest, proof) + 1 >= LEAST_MINORITY;
        (is_proven && self.is_clear(&largest, among, proof, limits.like)).then_some(largest)
    }

    /// Reports whether no second group comes near the size of the first.
    fn is_clear(&self, first: &[usize], among: &[usize], link: f32, like: f32) -> bool {
        let rest: Vec<usize> = among.iter().copied().filter(|photo| !first.contains(photo)).collect();
        first.len() as f32 >= OVER_NEXT * self.group(&rest, link, like).len() as f32
    }

    /// Returns the photos that are like the one with the most similarities of at least `link`, settled so that the median of each
    /// one's similarities to the others reaches `like`.
    fn group(&self, among: &[usize], link: f32, like: f32) -> Vec<usize> {
        let links = |photo: usize| among.iter().filter(move |&&other| self.is_linked(photo, other, link));
        let total = |photo: usize| among.iter().map(|&other| self.similarity(photo, other)).sum::<f32>();
        let standing = |photo: usize| (links(photo).count(), total(photo));
        let standings = among.iter().map(|&photo| (photo, standing(photo)));
        let middle = standings.max_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let Some((middle, _)) = middle else { return Vec::new() };
        let mut group: Vec<usize> = links(middle).copied().chain([middle]).collect();
        group.sort_unstable();
        for _ in 0..ROUNDS {
            let settled: Vec<usize> =
                among.iter().copied().filter(|&photo| self.is_like(photo, &group, like)).collect();
            if group.len() < 2 || settled.len() < 2 || settled == group {
                break;
            }
            group = settled;
        }
        group
    }

    fn is_linked(&self, a: usize, b: usize, link: f32) -> bool {
        a != b && self.similarity(a, b) >= link
    }

    /// Returns the most similarities of at least `link` that one photo of a group has to the others.
    fn most_links(&self, group: &[usize], link: f32) -> usize {
        let links = |&photo: &usize| group.iter().filter(|&&other| self.is_linked(photo, other, link)).count();
        group.iter().map(links).max().unwrap_or(0)
    }
}
