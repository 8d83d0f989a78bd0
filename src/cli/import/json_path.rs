//! JSONPath, as far as generators use it, as JSONata.

/// The JSONata path of a JSONPath such as `$.data.token` or `$['a'][0]`; empty for `$`. `None` for anything else.
pub(crate) fn to_jsonata(path: &str) -> Option<String> {
    let mut rest = path.trim().strip_prefix('$')?;
    let mut result = String::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            push(&mut result, &after[..end])?;
            rest = &after[end..];
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            if let quote @ ('\'' | '"') = inside.chars().next()? {
                push(&mut result, inside.strip_prefix(quote)?.strip_suffix(quote)?)?;
            } else {
                let index: u32 = inside.parse().ok()?;
                result = format!("{result}[{index}]");
            }
            rest = after;
        }
    }
    Some(result)
}

fn push(path: &mut String, name: &str) -> Option<()> {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&quoted(name)?);
    Some(())
}

/// A name in a JSONata path; `None` if it cannot be one.
pub(crate) fn quoted(name: &str) -> Option<String> {
    let is_plain = name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_')
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && !["and", "or", "in", "true", "false", "null"].contains(&name);
    let is_usable = !name.is_empty() && !name.contains(['`', '*', '@', '?', '(', ')', ':', ',']);
    is_usable.then(|| if is_plain { name.to_owned() } else { format!("`{name}`") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_names_and_indexes_are_translated() {
        let cases = [
            ("$", Some("")),
            ("$.access_token", Some("access_token")),
            ("$.data.token-list[0].value", Some("data.`token-list`[0].value")),
            ("$['a b'][\"c\"]", Some("`a b`.c")),
            ("$..token", None),
            ("$.items[?(@.x)]", None),
            ("$.items[*]", None),
            ("token", None),
        ];
        for (path, expected) in cases {
            assert_eq!(to_jsonata(path).as_deref(), expected, "{path}");
        }
    }
}
