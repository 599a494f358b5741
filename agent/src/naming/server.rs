//! A DNS server for tests: on loopback, by UDP and TCP, answering from a table that the test changes
//! as it goes. It counts what it is asked, and can be silent.

use hickory_resolver::proto::op::{Message, Metadata, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// How a question is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These addresses, of the kind that was asked for, with this TTL in seconds.
    Found(u32, Vec<IpAddr>),
    /// These records, of the kind that was asked for or aliases, with this TTL in seconds.
    Data(u32, Vec<RData>),
    /// A code without records.
    Code(ResponseCode),
    /// No such name, for so many seconds by the SOA (RFC 2308, section 3).
    Gone(u32),
    /// Not at all.
    Silence,
}

/// The running server; it ends with its runtime.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    replies: HashMap<String, Reply>,
    questions: HashMap<(String, RecordType), usize>,
    by_tcp: usize,
}

/// Addresses with a TTL, as a reply.
pub(crate) fn found(ttl: u32, ips: &[&str]) -> Reply {
    Reply::Found(ttl, ips.iter().map(|ip| ip.parse().expect("an address")).collect())
}

/// SRV records with a TTL, as a reply: priority, weight, port and target of each.
pub(crate) fn services(ttl: u32, records: &[(u16, u16, u16, &str)]) -> Reply {
    let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
        RData::SRV(SRV::new(*priority, *weight, *port, Name::from_ascii(target).expect("a name")))
    };
    Reply::Data(ttl, records.iter().map(record).collect())
}

/// An alias of this host, as a reply.
pub(crate) fn alias(host: &str) -> Reply {
    Reply::Data(0, vec![RData::CNAME(CNAME(Name::from_ascii(format!("{host}.")).expect("a name")))])
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().expect("a bound socket");
        let server = Self { address, table: Arc::default() };
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        server
    }

    /// From now on `host` is answered so; a host without a reply does not exist.
    pub(crate) fn set(&self, host: &str, reply: Reply) {
        self.table.lock().unwrap().replies.insert(format!("{host}."), reply);
    }

    /// How often a host's records of a kind were asked for.
    pub(crate) fn asked(&self, host: &str, kind: RecordType) -> usize {
        let table = self.table.lock().unwrap();
        table.questions.get(&(format!("{host}."), kind)).copied().unwrap_or(0)
    }

    /// How many questions came by TCP.
    pub(crate) fn asked_by_tcp(&self) -> usize {
        self.table.lock().unwrap().by_tcp
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let Some(mut answer) = self.answer(&buffer[..len]) else {
                continue;
            };
            if answer.to_vec().expect("a message").len() > 1232 {
                answer.metadata.truncation = true;
                answer.answers.clear();
            }
            _ = socket.send_to(&answer.to_vec().expect("a message"), from).await;
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().serve_stream(stream));
        }
    }

    async fn serve_stream(self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let len = stream.read_u16().await?;
            let mut question = vec![0; len.into()];
            stream.read_exact(&mut question).await?;
            self.table.lock().unwrap().by_tcp += 1;
            let Some(answer) = self.answer(&question) else {
                continue;
            };
            let bytes = answer.to_vec().expect("a message");
            stream.write_u16(u16::try_from(bytes.len()).expect("64 KiB")).await?;
            stream.write_all(&bytes).await?;
        }
    }

    /// The answer to a question, or none.
    fn answer(&self, question: &[u8]) -> Option<Message> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let host = query.name().to_ascii().to_ascii_lowercase();
        let mut table = self.table.lock().unwrap();
        *table.questions.entry((host.clone(), query.query_type())).or_default() += 1;
        let reply = table.replies.get(&host).cloned().unwrap_or(Reply::Code(ResponseCode::NXDomain));
        let mut answer = Message::new(0, question.metadata.message_type, question.metadata.op_code);
        answer.metadata = Metadata::response_from_request(&question.metadata);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match reply {
            Reply::Silence => return None,
            Reply::Code(code) => answer.metadata.response_code = code,
            Reply::Gone(ttl) => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                let origin = Name::root();
                let soa = SOA::new(origin.clone(), origin.clone(), 1, 3600, 600, 86_400, ttl);
                answer.add_authority(Record::from_rdata(origin, ttl, RData::SOA(soa)));
            }
            Reply::Found(ttl, ips) => add(&mut answer, &query, ttl, ips.into_iter().map(RData::from)),
            Reply::Data(ttl, data) => add(&mut answer, &query, ttl, data.into_iter()),
        }
        Some(answer)
    }
}

fn add(answer: &mut Message, query: &Query, ttl: u32, data: impl Iterator<Item = RData>) {
    let answers = |kind: RecordType| kind == query.query_type() || kind == RecordType::CNAME;
    let wanted = data.filter(|data| answers(data.record_type()));
    answer.add_answers(wanted.map(|data| Record::from_rdata(query.name().clone(), ttl, data)));
}

/// The same free port by UDP and TCP.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = udp.local_addr().expect("a bound socket");
        if let Ok(tcp) = TcpListener::bind(address).await {
            return (udp, tcp);
        }
    }
}
