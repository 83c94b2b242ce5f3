//! `${NAME}` and `${NAME:-default}` in scalars.
//!
//! Variables are put in after the YAML has been read, so a variable can never add structure, and lines stay true.
//! `$${` stands for `${`; a `$` before anything else is itself.

/// Why a scalar can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("the environment variable `{0}` isn't set")]
    Undefined(String),
    #[error("`${{` without a closing `}}`")]
    Unclosed,
    #[error("`{0}` isn't the name of an environment variable")]
    BadName(String),
}

/// Replaces every variable in `text`; `None` when there is none, so that the text can stay what it is.
pub(super) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, ExpandError> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let (reference, after) = after.split_once('}').ok_or(ExpandError::Unclosed)?;
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) {
            return Err(ExpandError::BadName(name.to_owned()));
        }
        // As in a shell, `:-` covers a variable that is set and empty.
        let value = variable(name).filter(|value| default.is_none() || !value.is_empty());
        match (value, default) {
            (Some(value), _) => expanded.push_str(&value),
            (None, Some(default)) => expanded.push_str(default),
            (None, None) => return Err(ExpandError::Undefined(name.to_owned())),
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

/// Writes text such that [`expand`] gives it back.
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8443".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${PORT}\nadmin: {}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn replaces_variables_and_defaults() {
        for (text, expanded) in [
            (":${PORT}", ":8443"),
            ("${PORT}${PORT}", "84438443"),
            ("${PORT:-80}", "8443"),
            ("${NONE:-80}", "80"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${EMPTY}", ""),
            ("${EMPTY:-80}", "80"),
            ("$${PORT}", "${PORT}"),
            ("$ ${PORT} $", "$ 8443 $"),
        ] {
            assert_eq!(
                expand(text, &environment),
                Ok(Some(expanded.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn leaves_text_without_variables_alone() {
        for text in ["", "plain", "$PORT", "cost: $5", "{PORT}"] {
            assert_eq!(expand(text, &environment), Ok(None), "{text}");
        }
    }

    #[test]
    fn values_are_not_expanded_again() {
        assert_eq!(
            expand("${TRICK}", &environment),
            Ok(Some("${PORT}\nadmin: {}".to_owned()))
        );
    }

    #[test]
    fn escaped_text_expands_to_itself() {
        for text in ["${PORT}", "$${PORT}", "a ${", "$$", "${${"] {
            let expanded = expand(&escape(text), &environment).unwrap();
            assert_eq!(expanded.as_deref().unwrap_or(&escape(text)), text);
        }
    }

    #[test]
    fn refuses_what_cannot_be_replaced() {
        for (text, error) in [
            ("${NONE}", ExpandError::Undefined("NONE".to_owned())),
            ("${PORT", ExpandError::Unclosed),
            ("${}", ExpandError::BadName(String::new())),
            ("${1A}", ExpandError::BadName("1A".to_owned())),
            ("${A B}", ExpandError::BadName("A B".to_owned())),
        ] {
            assert_eq!(expand(text, &environment), Err(error), "{text}");
        }
    }
}
