//! A SPIFFE Workload API for tests: a gRPC server at a unix socket that gives whatever it is told to, good or bad, to
//! everybody who asks, again whenever that changes. Its messages are those of the SPIFFE standard (workload.proto), written
//! out here, so that no protobuf compiler is needed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread::JoinHandle,
};

use futures::{Stream, future, stream};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    net::UnixListener,
    sync::{oneshot, watch},
};
use tonic::{Code, Response, Status, codegen::Service};

use crate::authority::{Authority, Credential};

/// What a Workload API gives at a time; `X509SVIDResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Set {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    federated: BTreeMap<String, Vec<u8>>,
}

/// `X509SVID`.
#[derive(Clone, PartialEq, prost::Message)]
struct Svid {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    hint: String,
}

/// `X509SVIDRequest`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Ask {}

/// A running Workload API.
#[derive(Debug)]
pub struct WorkloadApi {
    socket: PathBuf,
    gives: watch::Sender<Option<Set>>,
    callers: Arc<Callers>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Those who have asked.
#[derive(Debug, Default)]
struct Callers {
    count: AtomicUsize,
    /// The next ones hear nothing until something else is given.
    wait: AtomicBool,
}

impl Set {
    /// One certificate, which says that it is of `id`, and the bundle of its trust domain.
    #[must_use]
    pub fn of(id: &str, credential: &Credential, bundle: &[&Authority]) -> Self {
        let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes()).expect("a key is PEM");
        let svid = Svid {
            id: id.to_owned(),
            chain: der(&credential.cert),
            key: key.secret_der().to_vec(),
            bundle: ders(bundle),
            hint: String::new(),
        };
        Self { svids: vec![svid], federated: BTreeMap::new() }
    }

    /// Nobody is known.
    #[must_use]
    pub fn empty() -> Self {
        Self { svids: Vec::new(), federated: BTreeMap::new() }
    }

    /// And the bundle of another trust domain.
    #[must_use]
    pub fn federated(mut self, domain: &str, bundle: &[&Authority]) -> Self {
        self.federated.insert(domain.to_owned(), ders(bundle));
        self
    }

    /// With the key of another certificate.
    #[must_use]
    pub fn with_key_of(mut self, other: &Self) -> Self {
        self.svids[0].key.clone_from(&other.svids[0].key);
        self
    }

    /// With these bytes in place of a certificate.
    #[must_use]
    pub fn with_chain(mut self, bytes: &[u8]) -> Self {
        self.svids[0].chain = bytes.to_vec();
        self
    }

    /// With these bytes in place of the bundle.
    #[must_use]
    pub fn with_bundle(mut self, bytes: &[u8]) -> Self {
        self.svids[0].bundle = bytes.to_vec();
        self
    }

    /// With a certificate in place of the bundle's.
    #[must_use]
    pub fn with_bundle_of(self, credential: &Credential) -> Self {
        self.with_bundle(&der(&credential.cert))
    }
}

impl WorkloadApi {
    /// One that listens at this socket, and gives this.
    #[must_use]
    pub fn start(socket: &Path, set: Set) -> Self {
        let mut api = Self::at(socket);
        api.give(set);
        api.come_back();
        api
    }

    /// One that is not there yet.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), gives: watch::Sender::new(None), callers: Arc::default(), running: None }
    }

    /// What a configuration writes for it.
    #[must_use]
    pub fn tls(&self) -> String {
        format!("spiffe = \"unix:{}\"", self.socket.display())
    }

    /// From now on it gives this, also to who asked before.
    pub fn give(&self, set: Set) {
        self.gives.send_replace(Some(set));
    }

    /// From now on it knows nobody.
    pub fn deny(&self) {
        self.gives.send_replace(None);
    }

    /// From now on who asks waits for the next set that is given, or does not; those before have what they have.
    pub fn lets_wait(&self, wait: bool) {
        self.callers.wait.store(wait, Relaxed);
    }

    /// How many have asked.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.callers.count.load(Relaxed)
    }

    /// Ends it, and every stream with it, as a crash would.
    pub fn die(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("the server ends in peace");
        }
    }

    /// Starts it (again) at its socket.
    pub fn come_back(&mut self) {
        self.die();
        let _ = fs::remove_file(&self.socket);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let entered = runtime.enter();
        let listener = UnixListener::bind(&self.socket).expect("the socket's folder can be written");
        drop(entered);
        let (stop, stopped) = oneshot::channel();
        let fetch = Fetch(self.gives.subscribe(), Arc::clone(&self.callers));
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(&listener, &fetch) => {}
                    _ = stopped => {}
                }
            });
        });
        self.running = Some((stop, thread));
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.die();
    }
}

async fn serve(listener: &UnixListener, fetch: &Fetch) {
    loop {
        let (socket, _) = listener.accept().await.expect("the server accepts");
        let service = fetch.clone();
        let answer = move |request: Request<Incoming>| {
            let service = service.clone();
            async move {
                assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
                let is_told = request.headers().get("workload.spiffe.io").is_some_and(|value| value == "true");
                assert!(is_told, "SPIFFE Workload Endpoint, section 3: a request without its header");
                let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
                Ok::<_, std::convert::Infallible>(grpc.server_streaming(service, request).await)
            }
        };
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(socket), service_fn(answer)));
    }
}

/// The one call that is served.
#[derive(Clone)]
struct Fetch(watch::Receiver<Option<Set>>, Arc<Callers>);

/// Every set from now on.
type Sets = Pin<Box<dyn Stream<Item = Result<Set, Status>> + Send>>;

impl Service<tonic::Request<Ask>> for Fetch {
    type Response = Response<Sets>;
    type Error = Status;
    type Future = future::Ready<Result<Response<Sets>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::Request<Ask>) -> Self::Future {
        let mut gives = self.0.clone();
        if self.1.wait.load(Relaxed) {
            gives.mark_unchanged();
        } else {
            gives.mark_changed();
        }
        self.1.count.fetch_add(1, Relaxed);
        let sets = stream::unfold(Some(gives), |gives| async {
            let mut gives = gives?;
            gives.changed().await.ok()?;
            let given = gives.borrow_and_update().clone();
            match given {
                Some(set) => Some((Ok(set), Some(gives))),
                None => Some((Err(Status::new(Code::PermissionDenied, "no identity issued")), None)),
            }
        });
        future::ready(Ok(Response::new(Box::pin(sets))))
    }
}

fn ders(authorities: &[&Authority]) -> Vec<u8> {
    authorities.iter().flat_map(|authority| der(authority.pem())).collect()
}

/// Certificates one after another, as the standard has them.
fn der(pem: &str) -> Vec<u8> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    certificates.flat_map(|der| der.expect("a certificate is PEM").to_vec()).collect()
}
