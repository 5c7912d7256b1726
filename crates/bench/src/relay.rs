//! A link between this machine and another, which can be long, lossy, counted, and cut.
//!
//! The kernels that testbeds run on have no `netem`, so the link is a program: it delays what it
//! passes on, and holds a lost segment, and all behind it, until TCP would have sent it again.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

/// How long the link is, and how bad.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Each way.
    pub delay: Duration,
    /// One of so many segments is lost; none if it is zero.
    pub one_lost_of: u64,
}

/// What a segment carries on an ordinary network, in bytes.
const SEGMENT: u64 = 1460;

/// The least time after which TCP sends again what was lost, beyond the round trip.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A port on our loopback that leads to another one.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    flow: Arc<watch::Sender<Flow>>,
    counts: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Cut,
    Closed,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    turns: AtomicU64,
    /// Whether the last that passed on our side was an answer.
    answered: AtomicBool,
}

impl Counters {
    fn send(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.answered.swap(false, Ordering::Relaxed) {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.answered.store(true, Ordering::Relaxed);
    }
}

/// What passed, since the relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub connections: u64,
    /// Bytes towards the far end.
    pub sent: u64,
    /// Bytes from it.
    pub received: u64,
    /// How often something was sent after something was received: round trips, at most.
    pub turns: u64,
}

impl Relay {
    /// Leads to a port of our loopback.
    pub fn start(to: u16, link: Link) -> Relay {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let flow = Arc::new(watch::Sender::new(Flow::Open));
        let counts = Arc::new(Counters::default());
        let thread = std::thread::spawn({
            let (flow, counts) = (flow.subscribe(), counts.clone());
            move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(relay(listener, to, link, flow, &counts));
            }
        });
        Relay { port, flow, counts, thread: Some(thread) }
    }

    /// The port on our side.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What passed.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counters { connections, sent, received, turns, .. } = &*self.counts;
        Counts {
            connections: read(connections),
            sent: read(sent),
            received: read(received),
            turns: read(turns),
        }
    }

    /// Pulls the cable: nothing passes any more, and neither end is told.
    pub fn cut(&self) {
        self.flow.send_replace(Flow::Cut);
    }

    /// Closes all connections, and takes no new one.
    pub fn close(&self) {
        self.flow.send_replace(Flow::Closed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::ops::Sub for Counts {
    type Output = Counts;

    /// What passed since.
    fn sub(self, before: Counts) -> Counts {
        Counts {
            connections: self.connections - before.connections,
            sent: self.sent - before.sent,
            received: self.received - before.received,
            turns: self.turns - before.turns,
        }
    }
}

/// Passes connections on until it is closed.
async fn relay(
    listener: std::net::TcpListener,
    to: u16,
    link: Link,
    mut flow: watch::Receiver<Flow>,
    counts: &Arc<Counters>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let near = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => near,
                Err(_) => continue,
            },
            _ = flow.wait_for(|it| *it == Flow::Closed) => return,
        };
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let (counts, mut flow) = (counts.clone(), flow.clone());
        tokio::spawn(async move {
            let passing = pass(near, to, link, flow.clone(), &counts);
            tokio::select! {
                _ = passing => {}
                _ = flow.wait_for(|it| *it == Flow::Closed) => {}
            }
        });
    }
}

/// Passes one connection on, both ways, until both have ended.
async fn pass(
    near: TcpStream,
    to: u16,
    link: Link,
    mut flow: watch::Receiver<Flow>,
    counts: &Counters,
) -> std::io::Result<()> {
    let _ = flow.wait_for(|it| *it == Flow::Open).await;
    // The first packet's way there and back, before anything can be said.
    tokio::time::sleep(link.delay * 2).await;
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(
        pump(near_read, far_write, link, flow.clone(), |n| counts.send(n), |_| ()),
        pump(far_read, near_write, link, flow, |_| (), |n| counts.receive(n)),
    );
    Ok(())
}

/// Passes on what is read, in order, each piece when it is due.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: Link,
    mut flow: watch::Receiver<Flow>,
    read: impl Fn(usize),
    delivered: impl Fn(usize),
) {
    let (on_the_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let send = async move {
        let mut losses = Losses::new(link.one_lost_of);
        let mut due = Instant::now();
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            read(n);
            let late = (link.delay * 2 + RETRANSMISSION) * losses.after(n as u64);
            due = due.max(Instant::now() + link.delay + late);
            if on_the_way.send((due, buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let deliver = async {
        while let Some((due, bytes)) = arriving.recv().await {
            tokio::time::sleep_until(due).await;
            let _ = flow.wait_for(|it| *it == Flow::Open).await;
            delivered(bytes.len());
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // A cut link does not tell that the other end has gone, either.
        let _ = flow.wait_for(|it| *it == Flow::Open).await;
        let _ = to.shutdown().await;
    };
    tokio::join!(send, deliver);
}

/// Loses every n-th segment: as many as chance would, and the same ones each time.
struct Losses {
    every: u64,
    bytes: u64,
}

impl Losses {
    fn new(every: u64) -> Losses {
        Losses { every, bytes: 0 }
    }

    /// How many of the segments that carry these bytes are lost.
    fn after(&mut self, bytes: u64) -> u32 {
        if self.every == 0 {
            return 0;
        }
        // A small message is a segment of its own.
        let bytes = bytes.next_multiple_of(SEGMENT);
        let lost_before = self.bytes / (SEGMENT * self.every);
        self.bytes += bytes;
        u32::try_from(self.bytes / (SEGMENT * self.every) - lost_before).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        time::Instant,
    };

    use super::*;

    /// A port that sends back what it gets.
    fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        port
    }

    fn connect(relay: &Relay) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn what_passes_is_passed_on_and_counted() {
        let relay = Relay::start(echo(), Link::default());
        let mut stream = connect(&relay);
        let text = vec![7; 100_000];
        assert_eq!(ask(&mut stream, &text).unwrap(), text);
        let counts = Counts { turns: 0, ..relay.counts() };
        let (sent, received) = (100_000, 100_000);
        assert_eq!(counts, Counts { connections: 1, sent, received, turns: 0 });
    }

    #[test]
    fn a_long_link_takes_its_time() {
        let delay = Duration::from_millis(50);
        let relay = Relay::start(echo(), Link { delay, one_lost_of: 0 });
        let mut stream = connect(&relay);
        let began = Instant::now();
        ask(&mut stream, b"hello").unwrap();
        ask(&mut stream, b"hello").unwrap();
        assert!(began.elapsed() >= delay * 4);
        assert_eq!(relay.counts().turns, 1);
    }

    #[test]
    fn a_cut_link_is_silent_and_a_closed_one_ends() {
        let relay = Relay::start(echo(), Link::default());
        let mut stream = connect(&relay);
        ask(&mut stream, b"hello").unwrap();
        relay.cut();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let silent = ask(&mut stream, b"hello").unwrap_err().kind();
        assert_eq!(silent, std::io::ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        relay.close();
        let ended = stream.read(&mut [0]);
        assert!(
            matches!(&ended, Ok(0))
                || ended.as_ref().is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionReset),
            "{ended:?}"
        );
    }

    #[test]
    fn one_segment_of_a_hundred_is_lost_be_they_full_or_small() {
        let mut losses = Losses::new(100);
        assert_eq!(losses.after(SEGMENT * 250), 2);
        assert_eq!((0..49).map(|_| losses.after(1)).sum::<u32>(), 0);
        assert_eq!(losses.after(1), 1);
        assert_eq!(Losses::new(0).after(SEGMENT * 1000), 0);
    }
}
