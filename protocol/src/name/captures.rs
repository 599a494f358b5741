//! What captures took from a name, kept in the pattern's order. A handful at most, so it is searched and not hashed.

/// What a pattern's captures took from a name.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Captures(Vec<(String, String)>);

impl Captures {
    /// What the capture `name` took.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Each capture's name and what it took, in the pattern's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Captures {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Captures {
        Captures(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
