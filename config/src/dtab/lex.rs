//! A table's text as tokens with their offsets. White space and comments end here; a character that
//! belongs nowhere becomes a token too, so that the parser can go on and report the rest.

/// What one piece of the text is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// From `/` to the end of its last label.
    Path(&'a str),
    /// A weight, as written.
    Number(&'a str),
    /// `=>`
    Arrow,
    /// `;`
    Semicolon,
    /// `|`
    Bar,
    /// `||`
    DoubleBar,
    /// `&`
    Ampersand,
    /// `*` after a weight
    Star,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `~`
    Tilde,
    /// `!`
    Bang,
    /// `$`
    Dollar,
    /// Anything else, up to where something known may begin.
    Stray(&'a str),
    /// The end of the text.
    End,
}

/// A piece and where it begins, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) offset: usize,
    pub(super) kind: Kind<'a>,
}

/// All tokens of `text`, the last one [`Kind::End`].
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    loop {
        offset += blank(&text[offset..]);
        let (kind, len) = token(&text[offset..]);
        tokens.push(Token { offset, kind });
        if kind == Kind::End {
            return tokens;
        }
        offset += len;
    }
}

/// How many bytes of white space and comments `rest` begins with.
fn blank(rest: &str) -> usize {
    let mut left = rest.trim_start();
    while left.starts_with('#') {
        left = left.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    rest.len() - left.len()
}

/// The token that `rest` begins with, and its length.
fn token(rest: &str) -> (Kind<'_>, usize) {
    let Some(first) = rest.chars().next() else {
        return (Kind::End, 0);
    };
    match first {
        '/' => word(rest, ends_label, Kind::Path),
        '0'..='9' | '.' => word(rest, |tail| !tail.starts_with(is_numeral), Kind::Number),
        '=' if rest.starts_with("=>") => (Kind::Arrow, 2),
        ';' => (Kind::Semicolon, 1),
        '|' if rest.starts_with("||") => (Kind::DoubleBar, 2),
        '|' => (Kind::Bar, 1),
        '&' => (Kind::Ampersand, 1),
        '*' => (Kind::Star, 1),
        '(' => (Kind::Open, 1),
        ')' => (Kind::Close, 1),
        '~' => (Kind::Tilde, 1),
        '!' => (Kind::Bang, 1),
        '$' => (Kind::Dollar, 1),
        _ => word(rest, ends_label, Kind::Stray),
    }
}

/// The longest beginning of `rest`, at least one character, up to where `ends` holds.
fn word<'a>(rest: &'a str, ends: impl Fn(&str) -> bool, kind: impl Fn(&'a str) -> Kind<'a>) -> (Kind<'a>, usize) {
    let inner = rest.char_indices().skip(1).map(|(at, _)| at);
    let end = inner.into_iter().find(|at| ends(&rest[*at..])).unwrap_or(rest.len());
    (kind(&rest[..end]), end)
}

/// A label ends before `=>`, `;`, `|`, `&`, parentheses and white space.
fn ends_label(tail: &str) -> bool {
    let stops = |c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | '(' | ')');
    tail.starts_with("=>") || tail.starts_with(stops)
}

fn is_numeral(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_label_ends_where_the_grammar_says() {
        let expected = [
            Kind::Path("/svc"),
            Kind::Arrow,
            Kind::Path("/#/dns/a/80"),
            Kind::Bar,
            Kind::Path("/b"),
            Kind::Semicolon,
            Kind::End,
        ];
        assert_eq!(kinds("/svc=>/#/dns/a/80|/b;"), expected);
    }

    #[test]
    fn a_hash_opens_a_comment_only_where_white_space_may_stand() {
        assert_eq!(kinds("/a#b # /c\n# d\n/e"), [Kind::Path("/a#b"), Kind::Path("/e"), Kind::End]);
        assert_eq!(kinds("# to the end"), [Kind::End]);
    }

    #[test]
    fn weights_and_stops_are_their_own_tokens() {
        let weighted = [Kind::Number("0.5"), Kind::Star, Kind::Path("/a"), Kind::Ampersand];
        assert_eq!(kinds("0.5*/a&")[..4], weighted);
        let stops = [Kind::Tilde, Kind::Bang, Kind::Dollar, Kind::Open, Kind::Close, Kind::End];
        assert_eq!(kinds("~ ! $ ( )"), stops);
    }

    #[test]
    fn a_stray_piece_is_a_token_and_not_the_end() {
        assert_eq!(kinds("svc => /a"), [Kind::Stray("svc"), Kind::Arrow, Kind::Path("/a"), Kind::End]);
    }
}
