//! Decimal numbers compared by their text, so that `0.1` equals `0.10` and nothing is rounded.
//!
//! **Invariant:** pure; exact for any number of digits.

/// A number: `0.DIGITS` times ten to the power of `exponent`, without zeros at either end of the digits; zero has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i128,
}

impl Decimal {
    /// Reads `12`, `-0.50`, `1e-1`, `.5`; blanks around it are no matter. `None` for anything else, `NaN` and `inf` too.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, exponent(power)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let zeros = all.len() - significant.len();
        let digits = significant.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let point = i128::try_from(whole.len()).ok()? - i128::try_from(zeros).ok()?;
        Some(Self { negative, digits, exponent: point + power })
    }

    /// Whether it is above zero.
    pub(super) fn is_positive(&self) -> bool {
        !self.negative && !self.digits.is_empty()
    }
}

/// The power of ten. More digits than anybody writes are no number to us: what cannot be compared is told, not trusted.
fn exponent(text: &str) -> Option<i128> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > 30 {
        return None;
    }
    Some(sign * if digits.is_empty() { 0 } else { digits.parse::<i128>().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WSP-3: numbers are equal if and only if they are the same number, whatever the spelling.
    #[test]
    fn compares_exactly() {
        let same = [
            ("0.1", "0.10"),
            ("1e-1", "0.1"),
            ("100", "1E+2"),
            ("-0", "0.000"),
            (" 2 ", "+2.0"),
            (".5", "5e-1"),
            ("0e99", "0"),
            ("1e0002", "100"),
        ];
        for (one, other) in same {
            assert_eq!(Decimal::parse(one).expect(one), Decimal::parse(other).expect(other), "{one} {other}");
        }
        let different = [
            ("0.1", "0.10000000000000001"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
            ("1", "-1"),
            ("1e400", "1e401"),
        ];
        for (one, other) in different {
            assert_ne!(Decimal::parse(one).expect(one), Decimal::parse(other).expect(other), "{one} {other}");
        }
        for text in ["", "NaN", "inf", "-", ".", "1,5", "1e", "e5", "0x1", "1_000", "1e9999999999999999999999999999999"]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        for (text, positive) in [("1e-400", true), ("0", false), ("-0.0", false), ("-1", false), ("0.000", false)] {
            assert_eq!(Decimal::parse(text).expect(text).is_positive(), positive, "{text}");
        }
    }
}
