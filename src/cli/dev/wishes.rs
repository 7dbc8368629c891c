//! How another `pairdb dev` on the same directory asks a cluster that runs for another number of storage nodes: a
//! socket in the data directory, one JSON object each way.
//!
//! Only this user can reach it: it lies in a directory that nobody else can enter, or is given to nobody else.

use std::future::pending;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::exit::{Exit, Failure};
use super::resize::{NODES_MAX, Resized};
use crate::adapters::vitals::{Vitals, keep};

/// In the data directory.
const SOCKET: &str = "dev.sock";
/// Who asks has asked by then.
const QUESTION_MAX: Duration = Duration::from_secs(2);
/// Nodes are started and the change is asked for by then.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The longest question, and the longest answer.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    nodes: u16,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Resized(Resized),
    Refused(Refusal),
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    exit: Exit,
    code: String,
    message: String,
    hint: Option<String>,
}

/// Where others ask.
pub struct Wishes {
    /// `None`: nobody can.
    asked: Option<(Receiver<Wish>, JoinHandle<()>)>,
    path: PathBuf,
}

impl Wishes {
    /// Listens in the data directory, which this process has to itself. That nobody can ask stops nobody.
    pub fn at(data: &Path) -> Self {
        let path = data.join(SOCKET);
        let bind = || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {} // left by one that was killed
            }
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = bind().inspect_err(|error| {
            tracing::warn!(%error, "nobody can ask for another number of storage nodes while it runs");
        });
        let asked = listener.ok().map(|listener| {
            let (tell, asked) = channel(1);
            let listening = keep(Vitals::process(), "wishes", listen(listener, tell));
            (asked, tokio::spawn(listening))
        });
        Self { asked, path }
    }

    /// The next one. Who stops waiting for it misses none.
    pub async fn next(&mut self) -> Wish {
        let next = match &mut self.asked {
            Some((asked, _)) => asked.recv().await,
            None => None,
        };
        match next {
            Some(wish) => wish,
            None => pending().await, // nobody can ask
        }
    }
}

/// Tells of everybody who asks for something that can be, one after the other.
async fn listen(listener: UnixListener, tell: Sender<Wish>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            sleep(QUESTION_MAX).await; // such as for lack of descriptors
            continue;
        };
        if let Ok(Ok(Question { nodes })) = timeout(QUESTION_MAX, read(&mut stream)).await
            && (1..=NODES_MAX).contains(&nodes)
            && tell.send(Wish { nodes, stream }).await.is_err()
        {
            return;
        }
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        if let Some((_, listening)) = self.asked.take() {
            listening.abort();
            let _ = std::fs::remove_file(&self.path); // the next one removes it as well
        }
    }
}

/// Somebody who waits for an answer.
pub struct Wish {
    nodes: u16,
    stream: UnixStream,
}

impl Wish {
    /// So many nodes are wanted.
    pub const fn nodes(&self) -> u16 {
        self.nodes
    }

    /// Says what came of it. Who does not wait any more is not told.
    pub async fn answer(mut self, resized: Result<Resized, Failure>) {
        let answer = match resized {
            Ok(resized) => Answer::Resized(resized),
            Err(failure) => Answer::Refused(Refusal {
                exit: failure.exit,
                code: failure.code,
                message: failure.message,
                hint: failure.hint,
            }),
        };
        let _ = timeout(QUESTION_MAX, write(&mut self.stream, &answer)).await;
    }
}

/// Asks the cluster that runs on this directory. `None`: none does.
pub async fn ask(data: &Path, nodes: u16) -> Option<Result<Resized, Failure>> {
    let mut stream = UnixStream::connect(data.join(SOCKET)).await.ok()?;
    let asking = async {
        write(&mut stream, &Question { nodes }).await?;
        read::<Answer>(&mut stream).await
    };
    let answer = match timeout(ANSWER_MAX, asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Some(Err(silent(data, &error.to_string()))),
        Err(_) => return Some(Err(silent(data, "no answer in time"))),
    };
    Some(match answer {
        Answer::Resized(resized) => Ok(resized),
        Answer::Refused(refusal) => Err(refusal.into()),
    })
}

fn silent(data: &Path, why: &str) -> Failure {
    let data = data.display();
    let problem = format!("the cluster that runs on {data} did not say what came of it: {why}");
    Failure::new(Exit::Unavailable, "NO_ANSWER", problem)
        .hint("`pairdb migration list` shows what it does")
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self::new(refusal.exit, &refusal.code, refusal.message);
        failure.with_hint(refusal.hint.as_deref())
    }
}

async fn write(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    stream.write_all(&text).await?;
    stream.shutdown().await
}

async fn read<T: for<'de> Deserialize<'de>>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let mut text = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_answered_and_nonsense_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        assert!(ask(data, 5).await.is_none(), "nobody is there");
        let mut wishes = Wishes::at(data);
        let answering = async {
            let wish = wishes.next().await;
            assert_eq!(wish.nodes(), 5, "the others are no wishes");
            wish.answer(Ok(Resized::new(3, 5, None))).await;
            let wish = wishes.next().await;
            let refused = Failure::new(Exit::Refused, "NODE_IN_USE", "no");
            wish.answer(Err(refused.hint("add nodes"))).await;
        };
        let asking = async {
            for nonsense in [
                "",
                "{",
                "{\"nodes\":0}",
                "{\"nodes\":65535}",
                "{\"nodes\":-1}",
            ] {
                let mut stream = UnixStream::connect(data.join(SOCKET)).await.unwrap();
                stream.write_all(nonsense.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                assert_eq!(answer, b"", "{nonsense}");
            }
            let resized = ask(data, 5).await.unwrap().unwrap();
            assert_eq!(resized, Resized::new(3, 5, None));
            let refused = ask(data, 2).await.unwrap().unwrap_err();
            assert_eq!(
                (refused.exit, &*refused.code),
                (Exit::Refused, "NODE_IN_USE")
            );
            assert_eq!(refused.hint.as_deref(), Some("add nodes"));
        };
        tokio::join!(answering, asking);
        drop(wishes);
        assert!(ask(data, 5).await.is_none());
        std::fs::write(data.join(SOCKET), "").unwrap();
        drop(Wishes::at(data)); // what is left there is in nobody's way
    }
}
