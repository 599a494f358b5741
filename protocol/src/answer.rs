//! What ACCEPT carries (PROTOCOL.md 3): nothing for a stream, where it would go for a probe. It is shaped as OPEN
//! with fields of its own; a rule broken here is a protocol error, for an answer cannot be refused.

use crate::cursor::{Fields, put_field};
use crate::frame::{Kind, put};
use crate::{Violation, text};

/// The longest text of a field, in bytes: a bound path is a name, and two of them fit ACCEPT's bound.
const MAX_TEXT: usize = 1024;

const BOUND: u8 = 0x01;
const RULE: u8 = 0x02;

/// What ACCEPT says: empty but for a probe.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Answer {
    /// The path a stream would be connected to.
    pub bound: Option<String>,
    /// The policy rule that admitted.
    pub rule: Option<String>,
}

impl Answer {
    /// Whether it tells nothing, as the answer to a stream must.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bound.is_none() && self.rule.is_none()
    }

    /// Appends the ACCEPT frame. Each text is made to fit 1,024 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        for (tag, field) in [(BOUND, &self.bound), (RULE, &self.rule)] {
            if let Some(value) = field {
                put_field(tag, text::fit(value, MAX_TEXT).as_bytes(), &mut payload);
            }
        }
        put(Kind::Accept, &payload, out);
    }

    /// Reads an ACCEPT frame's payload; unknown fields are skipped.
    ///
    /// # Errors
    /// [`Violation::AnswerFields`] if a field is truncated, or a known one is repeated, no text, or longer than
    /// 1,024 bytes.
    pub fn decode(payload: &[u8]) -> Result<Answer, Violation> {
        let mut answer = Answer::default();
        for field in Fields::new(payload) {
            let (tag, value) = field.map_err(|_| Violation::AnswerFields)?;
            match tag {
                BOUND => fill(&mut answer.bound, value)?,
                RULE => fill(&mut answer.rule, value)?,
                _ => {}
            }
        }
        Ok(answer)
    }
}

fn fill(slot: &mut Option<String>, value: &[u8]) -> Result<(), Violation> {
    let text = text::check(value).filter(|text| text.len() <= MAX_TEXT);
    let text = text.ok_or(Violation::AnswerFields)?;
    match slot.replace(text.to_owned()) {
        None => Ok(()),
        Some(_) => Err(Violation::AnswerFields),
    }
}
