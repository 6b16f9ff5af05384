//! Sizes in MiB; byte counts and times for people; digests as text.

use std::fmt;
use std::str::FromStr;

/// A size in MiB, as `--memory` and `--disk` take it: `4096`, `4096MiB`, `4GiB`, `4g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mebibytes(pub u64);

impl Mebibytes {
    /// Returns the size in bytes.
    pub fn bytes(self) -> u64 {
        self.0 * 1024 * 1024
    }
}

impl FromStr for Mebibytes {
    type Err = String;

    /// Reads a plain number as MiB, as minikube does; suffixes are binary, with or without
    /// `iB`/`B`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a size; write it like 4096 (MiB), 4096MiB or 4GiB");
        let text_trimmed = text.trim();
        let split = text_trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text_trimmed.len());
        let (digits, unit) = text_trimmed.split_at(split);
        let number: u64 = digits.parse().map_err(|_| bad())?;
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "m" | "mb" | "mib" | "mi" => 1,
            "g" | "gb" | "gib" | "gi" => 1024,
            "t" | "tb" | "tib" | "ti" => 1024 * 1024,
            _ => return Err(bad()),
        };
        let mib = number.checked_mul(factor).ok_or_else(bad)?;
        // More than an exbibyte is a slip of the keyboard, and bytes() would overflow.
        if mib == 0 || mib > (1 << 40) {
            return Err(bad());
        }
        Ok(Mebibytes(mib))
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1024) {
            write!(f, "{} GiB", self.0 / 1024)
        } else {
            write!(f, "{} MiB", self.0)
        }
    }
}

/// A share in percent, as `--loss` takes it: `10`, `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Percent(pub f32);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().trim_end_matches('%').trim_end().parse().ok();
        number
            .filter(|share| (0.0..=100.0).contains(share))
            .map(Percent)
            .ok_or_else(|| format!("`{text}` is not a share; write it like 10% or 0.5"))
    }
}

/// A time in milliseconds, as `--delay` takes it: `100`, `100ms`, `2s`; at most a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Milliseconds(pub u32);

impl FromStr for Milliseconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor = match &text.trim()[digits.len()..] {
            "" | "ms" => Some(1),
            "s" => Some(1000),
            _ => None,
        };
        let number: Option<u32> = digits.parse().ok();
        let time = number
            .zip(factor)
            .and_then(|(n, factor)| n.checked_mul(factor));
        time.filter(|time| *time <= 60_000)
            .map(Milliseconds)
            .ok_or_else(|| {
                format!("`{text}` is not a time of at most a minute; write it like 100ms or 2s")
            })
    }
}

/// Returns a number of bytes for people: `575 MiB`, `1.2 GiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Returns a time for people, from seconds since 1970: `2026-05-01 09:30 UTC`.
pub(crate) fn human_time(seconds: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&format).ok())
        .unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_parse() {
        for (text, share) in [("10", 10.0), ("0.5%", 0.5), ("100 %", 100.0), ("0", 0.0)] {
            assert_eq!(text.parse(), Ok(Percent(share)), "{text}");
        }
        for text in ["", "%", "-1", "101", "NaN", "ten"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn delays_parse() {
        for (text, time) in [("0", 0), ("100ms", 100), ("2s", 2000), ("60s", 60_000)] {
            assert_eq!(text.parse(), Ok(Milliseconds(time)), "{text}");
        }
        for text in ["", "ms", "-1", "1.5s", "61s", "99999999999s", "1 h", "5€"] {
            assert!(text.parse::<Milliseconds>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_parse() {
        for (text, mib) in [
            ("4096", 4096),
            ("4096MiB", 4096),
            ("4g", 4096),
            ("4 GiB", 4096),
            ("1TiB", 1 << 20),
        ] {
            assert_eq!(text.parse::<Mebibytes>().unwrap().0, mib, "{text}");
        }
    }

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(human_time(1_700_000_000), "2023-11-14 22:13 UTC");
        assert_eq!(human_time(i64::MAX), "-");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "4x",
            "GiB",
            "1.5g",
            "99999999999999999999g",
            "99999999999T",
        ] {
            let e = text.parse::<Mebibytes>().unwrap_err();
            assert!(e.contains("4GiB"), "{text}: {e}");
        }
    }
}
