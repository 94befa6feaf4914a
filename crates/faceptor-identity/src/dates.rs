//! Dates of enrolments: the time now, ends of enrolments, and dates for people to read.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// Returns the Unix time, seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads the end of an enrolment: a time from now (`12h`, `30d`, `2w`, `6m`, `1y`), a date (`2027-01-31`, its first moment in
/// UTC), or `never`.
///
/// # Errors
/// For anything else, and for dates that are over.
pub fn end_of_enrolment(text: &str, now: u64) -> Result<Option<u64>, String> {
    if text == "never" {
        return Ok(None);
    }
    let refused = || format!("{text:?} is not a time: 12h, 30d, 2w, 6m, 1y, a date such as 2027-01-31, or never");
    let end = match text.split('-').collect::<Vec<_>>()[..] {
        [year, month, day] => {
            let number = |text: &str| text.parse::<u32>().map_err(|_| refused());
            let (year, month, day) = (number(year)?, number(month)?, number(day)?);
            days_before(year, month, day).ok_or_else(refused)? * DAY
        }
        _ => {
            let unit = text.chars().next_back().ok_or_else(refused)?;
            // Months and years of mean length: an enrolment does not end on a birthday.
            let seconds = match unit {
                'h' => 3600,
                'd' => DAY,
                'w' => 7 * DAY,
                'm' => 30 * DAY + DAY / 2,
                'y' => 365 * DAY + DAY / 4,
                _ => return Err(refused()),
            };
            let count: u32 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| refused())?;
            let length = u64::from(count).checked_mul(seconds).filter(|_| count > 0).ok_or_else(refused)?;
            now.saturating_add(length)
        }
    };
    if end <= now {
        return Err(format!("{text:?} is over"));
    }
    Ok(Some(end))
}

/// Writes a Unix time as `2026-11-30T10:15:00Z`.
pub fn text(time: u64) -> String {
    let (day, second) = (time / DAY, time % DAY);
    // Howard Hinnant's civil calendar: eras of 400 years that begin in March.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Returns the days from 1970-01-01 to a date; `None` for a date that does not exist, or is before that.
fn days_before(year: u32, month: u32, day: u32) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let length = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (u64::from(year / 400), u64::from(year % 400));
    let of_year = u64::from((153 * month + 2) / 5 + day - 1);
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30 10:15 UTC.
    const NOW: u64 = 1_796_033_700;

    #[test]
    fn dates_are_written_and_read() {
        for (time, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (NOW, "2026-11-30T10:15:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(text(time), date);
        }
        for date in ["2027-01-31", "2028-02-29", "2027-12-01", "2400-02-29"] {
            let end = end_of_enrolment(date, NOW).expect("a date").expect("an end");
            assert_eq!(text(end), format!("{date}T00:00:00Z"));
        }
    }

    #[test]
    fn ends_lie_ahead() {
        let after = |text| end_of_enrolment(text, NOW).expect("a time").map(|end| end - NOW);
        assert_eq!(after("12h"), Some(12 * 3600));
        assert_eq!(after("30d"), Some(30 * DAY));
        assert_eq!(after("2w"), Some(14 * DAY));
        assert_eq!(after("6m"), Some(183 * DAY));
        assert_eq!(after("1y"), Some(365 * DAY + DAY / 4));
        assert_eq!(after("never"), None);
        assert!(after("4294967295y").is_some());
        for bad in
            ["", "y", "0d", "1", "-1d", "1.5y", "1 y", "1é", "2027-02-29", "2027-13-01", "27-1", "1-2-3-4", "soon"]
        {
            assert!(end_of_enrolment(bad, NOW).is_err(), "{bad}");
        }
        assert!(end_of_enrolment("2026-11-30", NOW).is_err_and(|reason| reason.contains("is over")));
    }
}
