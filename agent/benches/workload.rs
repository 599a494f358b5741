//! What it costs a connection that its process is looked for: a connection over loopback without and with it, and the
//! look-up alone, in time and in allocations. `scripts/bench workload` runs it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::{hint::black_box, net::SocketAddr, sync::Arc};

use adit::workload::{Finder, shown};
use divan::{AllocProfiler, Bencher};
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    runtime::{Builder, Runtime},
};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A door on loopback, and who finds processes.
struct Door {
    runtime: Runtime,
    listener: TcpListener,
    finder: Arc<Finder>,
    at: SocketAddr,
}

impl Door {
    fn open() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let at = listener.local_addr().unwrap();
        let door = Self { runtime, listener, finder: Finder::new(), at };
        // The control groups are walked once; from then on this process's own is known.
        door.runtime.block_on(async {
            let (_app, ours, from) = door.connection().await;
            door.finder.of_tcp(&ours, from, at).await.unwrap();
        });
        door
    }

    async fn connection(&self) -> (TcpStream, TcpStream, SocketAddr) {
        let app = TcpStream::connect(self.at).await.unwrap();
        // Without a wait in TIME_WAIT, which would be out of ports before it is measured.
        socket2::SockRef::from(&app).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        let (ours, from) = self.listener.accept().await.unwrap();
        (app, ours, from)
    }
}

#[divan::bench]
fn a_connection_without(bencher: Bencher<'_, '_>) {
    let door = Door::open();
    bencher.bench_local(|| door.runtime.block_on(async { black_box(door.connection().await) }));
}

#[divan::bench]
fn a_connection_with(bencher: Bencher<'_, '_>) {
    let door = Door::open();
    bencher.bench_local(|| {
        door.runtime.block_on(async {
            let (app, ours, from) = door.connection().await;
            let found = door.finder.of_tcp(&ours, from, door.at).await.unwrap();
            black_box((shown(&found), app, ours))
        })
    });
}

#[divan::bench]
fn the_process_of_a_tcp_connection(bencher: Bencher<'_, '_>) {
    let door = Door::open();
    let (_app, ours, from) = door.runtime.block_on(door.connection());
    bencher.bench_local(|| door.runtime.block_on(door.finder.of_tcp(black_box(&ours), from, door.at)).unwrap());
}

#[divan::bench]
fn the_process_of_a_unix_connection(bencher: Bencher<'_, '_>) {
    let door = Door::open();
    let guard = door.runtime.enter();
    let (_app, ours) = UnixStream::pair().unwrap();
    drop(guard);
    bencher.bench_local(|| door.runtime.block_on(door.finder.of_unix(black_box(&ours))).unwrap());
}
