//! Tokens to a table. A rule with a mistake is skipped to its `;`, so one pass reports every rule
//! that is wrong; what a rule says is checked here too, so that a parsed table cannot be wrong.

use super::error::Places;
use super::lex::{Kind, Token, tokens};
use super::{Bound, BoundError, Dentry, Dtab, DtabError, Leaf, NameTree, Within};
use adit_protocol::{Name, Pattern, PatternError, Template};

/// Parentheses deeper than this help nobody, and a look-up's recursion is bounded by it.
const MAX_NESTING: usize = 8;

/// Characters of a word that a message shows.
const MAX_WORD: usize = 80;

/// Why a rule could not be read; what was wrong is already in the list.
struct Skipped;

/// Reads a whole table.
pub(super) fn table(text: &str) -> Result<Dtab, Vec<DtabError>> {
    let places = Places::of(text);
    let mut parser = Parser { text, places, tokens: tokens(text), at: 0, nesting: 0, errors: Vec::new() };
    let entries = parser.entries();
    if parser.errors.is_empty() { Ok(Dtab { entries, within: Within::Table }) } else { Err(parser.errors) }
}

struct Parser<'a> {
    text: &'a str,
    places: Places<'a>,
    tokens: Vec<Token<'a>>,
    at: usize,
    nesting: usize,
    errors: Vec<DtabError>,
}

impl<'a> Parser<'a> {
    fn entries(&mut self) -> Vec<Dentry> {
        let mut entries = Vec::new();
        while self.peek().kind != Kind::End {
            match self.entry() {
                Ok(entry) => entries.push(entry),
                Err(Skipped) => self.skip_rule(),
            }
            if self.peek().kind == Kind::Semicolon {
                self.at += 1;
            }
        }
        entries
    }

    /// `prefix => tree`, up to its `;` or the end.
    fn entry(&mut self) -> Result<Dentry, Skipped> {
        let start = self.peek().offset;
        let prefix = self.prefix()?;
        self.expect(Kind::Arrow, "'=>' after the prefix")?;
        let tree = self.tree()?;
        if !matches!(self.peek().kind, Kind::Semicolon | Kind::End) {
            return Err(self.unexpected("'|', '||', '&' or ';' after a destination"));
        }
        self.check_captures(start, &prefix, &tree)?;
        Ok(Dentry { prefix, tree, place: self.places.place(start) })
    }

    fn prefix(&mut self) -> Result<Pattern, Skipped> {
        let token = self.peek();
        let Kind::Path(path) = token.kind else {
            return Err(self.unexpected("a rule 'prefix => destination ;', its prefix beginning with '/'"));
        };
        self.at += 1;
        if is_bound(path) {
            let help = "write the rule for a logical name, such as /svc";
            return Err(self.wrong(token.offset, format!("bound names are never rewritten: '{path}'"), help));
        }
        Pattern::parse(path).map_err(|error| self.misspelt(token.offset, &error))
    }

    /// `failover | failover | …`
    fn tree(&mut self) -> Result<NameTree<Leaf>, Skipped> {
        let mut branches = vec![self.failover()?];
        while self.take(Kind::Bar) {
            branches.push(self.failover()?);
        }
        Ok(single(branches, |branch| branch).unwrap_or_else(NameTree::Alt))
    }

    /// `union || union || …`
    fn failover(&mut self) -> Result<NameTree<Leaf>, Skipped> {
        let mut branches = vec![self.union()?];
        while self.take(Kind::DoubleBar) {
            branches.push(self.union()?);
        }
        Ok(single(branches, |branch| branch).unwrap_or_else(NameTree::Failover))
    }

    /// `weighted & weighted & …`; the weight of a lone branch says nothing.
    fn union(&mut self) -> Result<NameTree<Leaf>, Skipped> {
        let mut branches = vec![self.weighted()?];
        while self.take(Kind::Ampersand) {
            branches.push(self.weighted()?);
        }
        Ok(single(branches, |(_, branch)| branch).unwrap_or_else(NameTree::Union))
    }

    fn weighted(&mut self) -> Result<(f64, NameTree<Leaf>), Skipped> {
        let weight = match self.peek().kind {
            Kind::Number(number) => self.weight(number)?,
            _ => 1.0,
        };
        Ok((weight, self.simple()?))
    }

    fn weight(&mut self, number: &str) -> Result<f64, Skipped> {
        let weight = number.parse().ok().filter(|weight: &f64| weight.is_finite());
        let Some(weight) = weight else {
            return Err(self.unexpected("a weight such as 1 or 0.5"));
        };
        self.at += 1;
        self.expect(Kind::Star, "'*' between a weight and its destination")?;
        Ok(weight)
    }

    fn simple(&mut self) -> Result<NameTree<Leaf>, Skipped> {
        let token = self.peek();
        let tree = match token.kind {
            Kind::Path(path) => NameTree::Leaf(self.leaf(token.offset, path)?),
            Kind::Tilde => NameTree::Neg,
            Kind::Bang => NameTree::Fail,
            Kind::Dollar => NameTree::Empty,
            Kind::Open => return self.parenthesised(),
            _ => return Err(self.unexpected("a path, '~', '!', '$' or '('")),
        };
        self.at += 1;
        Ok(tree)
    }

    fn parenthesised(&mut self) -> Result<NameTree<Leaf>, Skipped> {
        if self.nesting == MAX_NESTING {
            let help = "give the inner tree a rule of its own";
            let offset = self.peek().offset;
            return Err(self.wrong(offset, format!("parentheses nest deeper than {MAX_NESTING}"), help));
        }
        self.at += 1;
        self.nesting += 1;
        let tree = self.tree()?;
        self.nesting -= 1;
        self.expect(Kind::Close, "')'")?;
        Ok(tree)
    }

    fn leaf(&mut self, offset: usize, path: &str) -> Result<Leaf, Skipped> {
        let template = Template::parse(path).map_err(|error| self.misspelt(offset, &error))?;
        if path != "/" {
            self.check_leaf(offset, &template)?;
        }
        Ok(Leaf(template))
    }

    /// A destination must be able to become a name, and its namer must be one we have.
    fn check_leaf(&mut self, offset: usize, template: &Template) -> Result<(), Skipped> {
        let sample = filled(template.as_str());
        let name = match Name::parse(&sample) {
            Ok(name) => name,
            Err(error) => {
                return Err(self.wrong(offset, format!("no path: {error}"), "write one such as /svc/redis"));
            }
        };
        if !name.is_bound() {
            return Ok(());
        }
        match Bound::parse(&name) {
            Err(error @ BoundError::UnknownNamer(_)) => {
                let help = instead_of(&name).unwrap_or("use one of these");
                Err(self.wrong(offset, error.to_string(), help))
            }
            // The rest of the name may still complete it.
            Err(BoundError::TooShort(_)) | Ok(_) => Ok(()),
            Err(error) if template.is_literal() => Err(self.wrong(offset, error.to_string(), "correct that segment")),
            Err(_) => Ok(()),
        }
    }

    /// Every capture that a destination uses must be made by the prefix.
    fn check_captures(&mut self, start: usize, prefix: &Pattern, tree: &NameTree<Leaf>) -> Result<(), Skipped> {
        let made: Vec<&str> = prefix.capture_names().collect();
        let used = tree.leaves().into_iter().flat_map(|leaf| leaf.0.names());
        let Some(name) = used.into_iter().find(|name| !made.contains(name)) else {
            return Ok(());
        };
        let message = format!("the destination uses {{{name}}}, which the prefix '{prefix}' does not capture");
        Err(self.wrong(start, message, "capture it on the left, as in /svc/{service} => /#/dns/{service}/4143"))
    }

    fn peek(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take(&mut self, kind: Kind<'_>) -> bool {
        let found = self.peek().kind == kind;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, kind: Kind<'_>, what: &str) -> Result<(), Skipped> {
        if self.take(kind) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    /// Leaves a rule that could not be read, to just before its `;`.
    fn skip_rule(&mut self) {
        self.nesting = 0;
        while !matches!(self.peek().kind, Kind::Semicolon | Kind::End) {
            self.at += 1;
        }
    }

    fn unexpected(&mut self, wanted: &str) -> Skipped {
        let Token { offset, kind } = self.peek();
        let found = match kind {
            Kind::End => "the table ends here".to_owned(),
            _ => format!("'{}' does not belong here", self.word(offset)),
        };
        self.wrong(offset, found, format!("expected {wanted}"))
    }

    fn misspelt(&mut self, offset: usize, error: &PatternError) -> Skipped {
        self.wrong(offset + error.offset, error.to_string(), "correct that path")
    }

    fn wrong(&mut self, offset: usize, message: String, help: impl Into<String>) -> Skipped {
        let place = self.places.place(offset);
        self.errors.push(DtabError { place, message, help: help.into() });
        Skipped
    }

    /// The word at `offset`, for a message: as much of it as helps to find it.
    fn word(&self, offset: usize) -> &'a str {
        let rest = &self.text[offset..];
        let word = rest.split_whitespace().next().unwrap_or(rest);
        word.char_indices().nth(MAX_WORD).map_or(word, |(end, _)| &word[..end])
    }
}

/// One branch is itself; more are handed back.
fn single<B>(mut branches: Vec<B>, tree: impl FnOnce(B) -> NameTree<Leaf>) -> Result<NameTree<Leaf>, Vec<B>> {
    match branches.pop() {
        Some(branch) if branches.is_empty() => Ok(tree(branch)),
        Some(branch) => {
            branches.push(branch);
            Err(branches)
        }
        None => Err(branches),
    }
}

/// Linkerd has a long and a short way to write these; here there is the short one.
fn instead_of(name: &Name) -> Option<&'static str> {
    match name.as_str() {
        "/$/fail" => Some("write '!'"),
        "/$/nil" => Some("write '$'"),
        _ => None,
    }
}

fn is_bound(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("$" | "#"))
}

/// A destination with each capture filled by a letter, to see whether a name can come of it.
fn filled(template: &str) -> String {
    let mut sample = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        sample.push_str(before);
        sample.push('x');
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
    }
    sample + rest
}
