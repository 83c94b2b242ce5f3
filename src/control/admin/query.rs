//! The query of a request, decoded.

use super::answer::Refusal;

/// Names and values in their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// As forms have it: pairs between `&`, `+` for a space, `%` and two digits for a byte.
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let plus = |text: &str| text.replace('+', " ");
                Some((decoded(&plus(name))?, decoded(&plus(value))?))
            });
        let pairs: Option<_> = pairs.collect();
        pairs
            .map(Self)
            .ok_or(Refusal::Query("the query can't be read"))
    }

    /// All values of a name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The value of a name, if it is there.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Refusal::Query(
                "a parameter that may be there once is there twice",
            )),
        }
    }

    /// Refuses names that mean nothing here.
    pub(super) fn knows(&self, names: &[&str]) -> Result<(), Refusal> {
        if self
            .0
            .iter()
            .all(|(name, _)| names.contains(&name.as_str()))
        {
            Ok(())
        } else {
            Err(Refusal::Query("a parameter that means nothing here"))
        }
    }
}

/// Undoes `%XX`; `None` for what isn't UTF-8, or half of an escape.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let query =
            Query::parse("peer=10.0.0.1&header=X-Forwarded-For%3A+192.0.2.1%2C+a&header=b&&empty")
                .unwrap();
        assert_eq!(query.one("peer"), Ok(Some("10.0.0.1")));
        assert_eq!(
            query.all("header").collect::<Vec<_>>(),
            ["X-Forwarded-For: 192.0.2.1, a", "b"]
        );
        assert_eq!(query.one("empty"), Ok(Some("")));
        assert_eq!(query.one("missing"), Ok(None));
        assert!(query.one("header").is_err());
        assert!(query.knows(&["peer", "header", "empty"]).is_ok());
        assert!(query.knows(&["peer"]).is_err());
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for query in ["a=%", "a=%2", "a=%zz", "a=%+1", "%ff=1"] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}
