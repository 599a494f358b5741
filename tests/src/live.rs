//! A stream as a scenario holds it: the application's end and the service's, so that it can be said of both at once that
//! the stream goes on, or how it ends.

use std::io::ErrorKind;

use crate::{address::Address, end::End, listener::Listener};

/// Both ends of a stream.
#[derive(Debug)]
pub struct Live {
    /// The application's.
    pub client: End,
    /// The service's.
    pub server: End,
}

impl Live {
    /// A stream from the door `front` to `service`, over which a word has gone.
    #[must_use]
    pub fn open(front: &Address, service: &Listener) -> Self {
        let mut client = End::connect(front);
        client.send(b"hello");
        let mut server = service.accept();
        assert_eq!(server.receive(5), b"hello");
        Self { client, server }
    }

    /// It goes on, both ways.
    pub fn speaks(&mut self) {
        self.client.send(b"still");
        assert_eq!(self.server.receive(5), b"still");
        self.server.send(b"here");
        assert_eq!(self.client.receive(4), b"here");
    }

    /// Each way to its own end, the application's first.
    pub fn ends_well(mut self) {
        self.client.finish();
        assert_eq!(self.server.receive_rest(), b"");
        self.server.send(b"the answer");
        self.server.finish();
        assert_eq!(self.client.receive_rest(), b"the answer");
    }

    /// It was cut, and both ends see that.
    pub fn ends_in_a_reset(mut self) {
        assert_eq!(self.client.failure(), Some(ErrorKind::ConnectionReset));
        assert_eq!(self.server.failure(), Some(ErrorKind::ConnectionReset));
    }
}
