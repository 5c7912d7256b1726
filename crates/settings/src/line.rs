//! One line of an `.env` file, as far as all who read such files agree on it.
//!
//! dotenvy parses; but Compose 1 (python-dotenv), Compose 2 (compose-go) and dotenvy differ on
//! escapes, `$`, values over several lines and spaces around `=`. A line on which they differ is
//! refused, with the way to write it.

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Blank,
    Comment(&'a str),
    Entry(String, String),
}

/// Reads a line. The error says what is wrong and what to write, and never the value.
pub(crate) fn parse(line: &str) -> Result<Line<'_>, String> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\r') {
        return Err("a carriage return ends the line for some readers: remove it".to_owned());
    }
    let trimmed = line.trim_matches(BLANKS);
    if trimmed.is_empty() {
        return Ok(Line::Blank);
    }
    if let Some(comment) = trimmed.strip_prefix('#') {
        return Ok(Line::Comment(comment));
    }
    let entry = line.strip_prefix("export ").unwrap_or(line);
    let Some((key, value)) = entry.split_once('=') else {
        return Err("not a comment, and not KEY=value".to_owned());
    };
    if !is_key(key) {
        return Err(match key.trim() {
            inner if is_key(inner) => {
                format!("write `{inner}=` at the beginning, without spaces around it")
            }
            _ => "the name before `=` must be of A-Z, 0-9 and _, and not begin with a digit"
                .to_owned(),
        });
    }
    readers_agree_on(value).map_err(|why| format!("`{key}`: {why}"))?;
    // A reader that keeps going would take a value it half understood.
    let mut parsed = dotenvy::from_read_iter(line.as_bytes());
    match (parsed.next(), parsed.next()) {
        (Some(Ok((key, value))), None) => Ok(Line::Entry(key, value)),
        _ => Err(format!("`{key}`: a value with spaces or quotes belongs into 'single quotes'")),
    }
}

/// The line that every reader reads as this key and value.
pub(crate) fn write(key: &str, value: &str) -> Result<String, String> {
    let entry = Line::Entry(key.to_owned(), value.to_owned());
    ["", "'", "\""]
        .iter()
        .map(|quote| format!("{key}={quote}{value}{quote}"))
        .find(|line| parse(line).as_ref() == Ok(&entry))
        .ok_or_else(|| {
            "the readers of `.env` files do not agree on such a value (a quote or a backslash with \
             spaces or `$`, or several lines); choose another"
                .to_owned()
        })
}

/// The spaces that all readers take for such; some know more of them.
const BLANKS: [char; 2] = [' ', '\t'];

/// Capitals alone: a name is told in messages, and a line of a key or certificate that was pasted
/// looks much like one.
fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|it| it.is_ascii_uppercase() || it == b'_')
        && bytes.all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_')
}

fn readers_agree_on(value: &str) -> Result<(), String> {
    if let Some(control) = value.chars().find(|it| it.is_control() && *it != '\t') {
        return Err(format!("it holds the control character {control:?}"));
    }
    if value.starts_with(char::is_whitespace) {
        return Err("write the value right behind `=`, without a space".to_owned());
    }
    let rest = if let Some(quoted) = value.strip_prefix('\'') {
        let Some((inside, rest)) = quoted.split_once('\'') else {
            return Err("the quote is not closed on this line".to_owned());
        };
        if inside.contains('\\') {
            return Err("a backslash in quotes is read in different ways; write it without quotes, or choose another value".to_owned());
        }
        if inside.contains("${") {
            return Err(
                "`${` is replaced by some readers even in quotes; choose another value".to_owned()
            );
        }
        rest
    } else if let Some(quoted) = value.strip_prefix('"') {
        let Some((inside, rest)) = quoted.split_once('"') else {
            return Err("the quote is not closed on this line".to_owned());
        };
        if inside.contains(['\\', '$']) {
            return Err(
                "`$` and `\\` in double quotes are read in different ways; use 'single quotes'"
                    .to_owned(),
            );
        }
        rest
    } else {
        let text = value.split_once(" #").map_or(value, |(text, _)| text).trim_end_matches(BLANKS);
        if text.contains(['$', '\\', '\'', '"', '`']) {
            return Err("`$`, `\\` and quotes are read in different ways; put the value into 'single quotes'".to_owned());
        }
        if text.contains(char::is_whitespace) {
            return Err("put a value with spaces into 'single quotes'".to_owned());
        }
        if text.starts_with('#') {
            return Err("a value that begins with `#` is read in different ways; put it into 'single quotes'".to_owned());
        }
        return Ok(());
    };
    let rest = rest.trim_end_matches(BLANKS);
    if rest.is_empty() || rest.starts_with(" #") {
        Ok(())
    } else {
        Err("only a comment, after a space, may follow the closing quote".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, value: &str) {
        assert_eq!(parse(line), Ok(Line::Entry("A".into(), value.into())));
    }

    #[track_caller]
    fn refused(line: &str, why: &str) {
        let error = parse(line).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn what_all_readers_agree_on_is_taken() {
        check("A=b", "b");
        check("A=", "");
        check("export A=b", "b");
        check("A=b # a comment", "b");
        check("A=b#c", "b#c");
        check("A=b\r", "b");
        check("A='b c $d #e'", "b c $d #e");
        check("A='b' # a comment", "b");
        check("A=\"b c # d\"", "b c # d");
        check("A=postgres://u:p@h:5432/d?x=y&z", "postgres://u:p@h:5432/d?x=y&z");
        assert_eq!(parse("  # hi"), Ok(Line::Comment(" hi")));
        assert_eq!(parse(" \t"), Ok(Line::Blank));
    }

    #[test]
    fn what_they_read_differently_is_refused_with_the_way_to_write_it() {
        refused("A", "not KEY=value");
        refused("A =b", "without spaces");
        refused(" A=b", "without spaces");
        refused("A= b", "right behind");
        refused("1A=b", "not begin with a digit");
        refused("a=b", "of A-Z");
        refused("# a comment\rA=b", "carriage return");
        refused("A=b\u{a0}", "single quotes");
        refused("A=b c", "single quotes");
        refused("A=b$c", "single quotes");
        refused("A=b\\c", "single quotes");
        refused("A=it's", "single quotes");
        refused("A=#b", "single quotes");
        refused("A=\"b$c\"", "single quotes");
        refused("A=\"b\\nc\"", "single quotes");
        refused("A='b${c}'", "choose another value");
        refused("A='b\\'", "backslash");
        refused("A='b", "not closed");
        refused("A=\"b", "not closed");
        refused("A='b'c", "closing quote");
        refused("A=b\u{7}", "control character");
    }

    #[test]
    fn a_refusal_never_shows_the_value() {
        for line in
            ["PASSWORD=hunter2$x", "PASSWORD=hunter2 x", "PASSWORD='hunter2", "PASSWORD= hunter2"]
        {
            assert!(!parse(line).unwrap_err().contains("hunter2"));
        }
    }

    #[test]
    fn a_value_is_quoted_only_where_it_must_be() {
        assert_eq!(write("A", "b").unwrap(), "A=b");
        assert_eq!(write("A", "b c$d").unwrap(), "A='b c$d'");
        assert_eq!(write("A", "it's").unwrap(), "A=\"it's\"");
        for impossible in ["it's $1", "a\nb", "a b\\", "b\u{7}"] {
            let error = write("A", impossible).unwrap_err();
            assert!(error.contains("choose another") && !error.contains(impossible));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_meant(value in ".{0,30}") {
            if let Ok(line) = write("A", &value) {
                proptest::prop_assert_eq!(parse(&line), Ok(Line::Entry("A".into(), value)));
            }
        }

        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,40}") {
            let _ = parse(&line);
        }

        #[test]
        fn a_value_in_single_quotes_comes_back_as_it_is(value in "[^'\\\\$\\pC]{0,30}") {
            let line = format!("A='{value}'");
            proptest::prop_assert_eq!(parse(&line), Ok(Line::Entry("A".into(), value)));
        }
    }
}
