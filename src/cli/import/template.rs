//! Go templates, as far as generators use them: text with references to values of Secrets.

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    /// A value: `.auth.clientid` is `["auth", "clientid"]`.
    Value(Vec<String>),
    /// `{{ print .auth.user ":" .auth.password | b64enc }}`: the value of HTTP Basic.
    Basic(Vec<String>, Vec<String>),
}

/// Parses a template.
///
/// # Errors
///
/// An action is more than a reference to a value. It is not quoted, because it may contain a credential.
pub(crate) fn parse(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trims = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, remainder) = after.split_once("}}").ok_or("a template is not closed: {{ without }}")?;
        let before = if trims { before.trim_start() } else { before };
        let before = if action.starts_with("- ") { before.trim_end() } else { before };
        trims = action.ends_with(" -");
        push_text(&mut pieces, before);
        let action = action.strip_prefix("- ").unwrap_or(action);
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        if !action.starts_with("/*") {
            pieces.push(piece(action).ok_or("an action of a template is more than a reference to a value")?);
        }
        rest = remainder;
    }
    push_text(&mut pieces, if trims { rest.trim_start() } else { rest });
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn piece(action: &str) -> Option<Piece> {
    let mut pipeline = action.split('|').map(str::trim);
    let first = pipeline.next()?;
    let filters: Vec<&str> = pipeline.collect();
    if filters == ["b64enc"] {
        return basic(first);
    }
    // They encode the value for its place, which the operator does itself.
    let encodes = |filter: &&str| ["toString", "toJson", "urlquery", "quote", "trim"].contains(filter);
    filters.iter().all(encodes).then(|| value(first).map(Piece::Value))?
}

/// `.a.b`, `index .a "b"` or `(.a.b)`.
fn value(text: &str) -> Option<Vec<String>> {
    let text = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text).trim();
    if let Some(rest) = text.strip_prefix("index ") {
        let (base, key) = rest.trim().split_once(' ')?;
        let mut path = if base == "." { Vec::new() } else { names(base)? };
        path.push(key.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned());
        return Some(path);
    }
    names(text)
}

fn names(text: &str) -> Option<Vec<String>> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_');
    let names: Vec<&str> = text.strip_prefix('.')?.split('.').collect();
    names.iter().all(|name| is_name(name)).then(|| names.into_iter().map(ToOwned::to_owned).collect())
}

/// `print .a.user ":" .a.password`, or the same with `printf "%s:%s"`.
fn basic(text: &str) -> Option<Piece> {
    let text = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["print", user, "\":\"", password] | ["printf", "\"%s:%s\"", user, password] => {
            Some(Piece::Basic(names(user)?, names(password)?))
        }
        _ => None,
    }
}

/// The text of a template without values.
pub(crate) fn literal(pieces: &[Piece]) -> Option<String> {
    match pieces {
        [] => Some(String::new()),
        [Piece::Text(text)] => Some(text.clone()),
        _ => None,
    }
}

/// The only value of a template without text.
pub(crate) fn only_value(pieces: &[Piece]) -> Option<&[String]> {
    match pieces {
        [Piece::Value(path)] => Some(path),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn references_in_any_notation_are_found() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let id = || Piece::Value(path(&["auth", "id"]));
        let cases = [
            ("plain", vec![text("plain")]),
            ("a={{ .auth.id }}&b", vec![text("a="), id(), text("&b")]),
            ("{{.auth.id}}", vec![id()]),
            ("{{ .auth.id | urlquery }}", vec![id()]),
            ("{{ index .auth \"client-id\" }}", vec![Piece::Value(path(&["auth", "client-id"]))]),
            ("a {{- .auth.id -}} b", vec![text("a"), id(), text("b")]),
            ("a {{- /* note */ -}} b", vec![text("a"), text("b")]),
            (
                "Basic {{ print .auth.user \":\" .auth.password | b64enc }}",
                vec![text("Basic "), Piece::Basic(path(&["auth", "user"]), path(&["auth", "password"]))],
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(parse(template), Ok(expected), "{template}");
        }
        for template in ["{{ if .auth.id }}x{{ end }}", "{{ .auth.id | sha256sum }}", "{{ .auth.id"] {
            assert!(parse(template).is_err(), "{template}");
        }
    }
}
