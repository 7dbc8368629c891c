//! A way to a server on which connections fall silent and answers get lost.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of what a client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The server hears it. What it answers gets lost, and the connection with it.
    AnswerLost,
    /// The connection is lost before the server hears it.
    NotHeard,
    /// It is held until [`Proxy::let_go`].
    Held,
}

/// Passes on what is said, both ways, unless it is told otherwise. Who speaks TLS through it is not understood.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Debug)]
struct State {
    connections: Vec<Arc<Connection>>,
    /// What is looked for in what clients say, what becomes of it, and how often.
    fate: Option<(Vec<u8>, Fate, usize)>,
    is_holding: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    now: Mutex<Now>,
}

#[derive(Default, Debug)]
struct Now {
    /// All that the client said.
    said: Vec<u8>,
    is_silent: bool,
    loses_its_answer: bool,
}

impl Proxy {
    /// To the server at this port.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener, port));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing gets through, either way, on the connections on which a client has said this; nobody is told
    /// that they are broken. Returns how many they are.
    pub fn silence(&self, said: &str) -> usize {
        let mut silenced = 0;
        for connection in &self.shared.lock().connections {
            let mut now = lock(&connection.now);
            if !now.is_silent && contains(&now.said, said.as_bytes()) {
                now.is_silent = true;
                silenced += 1;
            }
        }
        silenced
    }

    /// The next `times` that a client says this, that becomes of it.
    pub fn next(&self, said: &str, fate: Fate, times: usize) {
        self.shared.lock().fate = Some((said.as_bytes().to_vec(), fate, times));
    }

    /// From now on all that clients say is answered.
    #[allow(dead_code, reason = "not everybody who has this file uses it")]
    pub fn is_well(&self) {
        self.shared.lock().fate = None;
    }

    /// Waits until it holds what a client said. Blocks.
    pub fn await_held(&self) {
        let waits = |state: &mut State| !state.is_holding;
        let (state, changed) = (self.shared.lock(), &self.shared.changed);
        let waiting = changed.wait_timeout_while(state, PATIENCE, waits);
        let (state, waited) = waiting.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(!waited.timed_out(), "in vain: something is held");
    }

    /// Passes on what it holds.
    pub fn let_go(&self) {
        self.shared.lock().is_holding = false;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    /// Ends all that is left of it.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        (state.is_over, state.is_holding) = (true, false);
        state
            .connections
            .iter()
            .for_each(|connection| connection.end());
        drop(state);
        self.shared.changed.notify_all();
        let _ = TcpStream::connect(self.address); // the one that accepts looks up
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener, port: u16) {
        while let Ok((client, _)) = listener.accept() {
            if self.lock().is_over {
                return;
            }
            // A server that is away: so is this connection.
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                continue;
            };
            let connection = Arc::new(Connection {
                client,
                server,
                now: Mutex::default(),
            });
            let mut state = self.lock();
            state.connections.push(Arc::clone(&connection));
            if state.is_over {
                connection.end();
            }
            drop(state);
            let (asking, asked) = (Arc::clone(&self), Arc::clone(&connection));
            std::thread::spawn(move || {
                let _ = asking.pass_on_questions(&asked);
                asked.end();
            });
            std::thread::spawn(move || {
                let _ = connection.pass_on_answers();
                connection.end();
            });
        }
    }

    fn pass_on_questions(&self, connection: &Connection) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        loop {
            let said = match (&connection.client).read(&mut buffer)? {
                0 => return Ok(()),
                len => &buffer[..len],
            };
            lock(&connection.now).said.extend_from_slice(said);
            match self.fate_of(said) {
                None => {}
                Some(Fate::NotHeard) => return Ok(()),
                Some(Fate::AnswerLost) => lock(&connection.now).loses_its_answer = true,
                Some(Fate::Held) => {
                    let holds = |state: &mut State| state.is_holding;
                    drop(self.changed.wait_while(self.lock(), holds));
                }
            }
            if !lock(&connection.now).is_silent {
                (&connection.server).write_all(said)?;
            }
        }
    }

    fn fate_of(&self, said: &[u8]) -> Option<Fate> {
        let mut state = self.lock();
        let (awaited, fate, times) = state.fate.as_mut()?;
        if !contains(said, awaited) {
            return None;
        }
        let fate = *fate;
        *times -= 1;
        if *times == 0 {
            state.fate = None;
        }
        state.is_holding |= fate == Fate::Held;
        drop(state);
        self.changed.notify_all();
        Some(fate)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Connection {
    fn pass_on_answers(&self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        loop {
            let answer = match (&self.server).read(&mut buffer)? {
                0 => return Ok(()),
                len => &buffer[..len],
            };
            let now = lock(&self.now);
            let (is_silent, is_lost) = (now.is_silent, now.loses_its_answer);
            drop(now);
            match (is_lost, is_silent) {
                (true, _) => return Ok(()),
                (false, true) => {}
                (false, false) => (&self.client).write_all(answer)?,
            }
        }
    }

    fn end(&self) {
        let _ = self.client.shutdown(Shutdown::Both); // it may have ended before
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn contains(said: &[u8], text: &[u8]) -> bool {
    said.windows(text.len()).any(|part| part == text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
