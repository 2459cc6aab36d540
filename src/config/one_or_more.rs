//! Lists of the configuration file. One entry by itself stands for a list of one: `to = "tcp://logs.example.org"`.
//!
//! Promise: what is neither is an error that says so. Law: pure.

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text in quotes or a list of such")]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

/// For `#[serde(default, deserialize_with = ...)]`.
///
/// # Errors
/// It is neither.
pub(super) fn read<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Some(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;

    fn to(text: &str) -> Result<Option<Vec<String>>, String> {
        toml::from_str::<Settings>(text).map(|settings| settings.to).map_err(|error| error.to_string())
    }

    #[test]
    fn one_more_or_none() {
        let expected = Some(vec!["udp://a".to_owned()]);
        assert_eq!(to("to = 'udp://a'"), Ok(expected.clone()));
        assert_eq!(to("to = ['udp://a']"), Ok(expected));
        assert_eq!(to("to = []"), Ok(Some(vec![])));
        assert_eq!(to("tls-pin = 'x'"), Ok(None));
        for wrong in ["to = 1", "to = [1]", "to = { a = 'b' }"] {
            let error = to(wrong).unwrap_err();
            assert!(error.contains("expected a text in quotes or a list of such"), "{error}");
            assert!(error.contains("line 1"), "{error}");
        }
    }
}
