//! A gate before a real sessiond: every call passes through it, is counted, and can be held up or refused. So a test says in
//! which order the calls of two requests come, and needs no luck.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use sessiond_proto::v1::{
    DestroyRequest, DestroyResponse, OpenRequest, OpenResponse, SaveRequest, SaveResponse,
    session_service_server::{SessionService, SessionServiceServer},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Extensions, Request, Response, Status,
    transport::{Server as Transport, server::TcpIncoming},
};

use crate::{Server, Stub};

/// One of the three calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Open.
    Open,
    /// Save.
    Save,
    /// Destroy.
    Destroy,
}

/// How many of each passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Opens.
    pub opens: usize,
    /// Saves.
    pub saves: usize,
    /// Destroys.
    pub destroys: usize,
}

/// The gate. It stands until this goes out of scope.
pub struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    taken: Taken,
    holds: Vec<Hold>,
    refusals: Vec<(Call, Status)>,
}

struct Hold {
    call: Call,
    /// Whether it is the call that waits, or its answer.
    answer: bool,
    here: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// The next call of its kind, or its answer, which waits at the gate.
pub struct Held {
    arrived: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Gate {
    /// Puts a gate before this server.
    pub async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("it has an address");
        let state = Arc::<Mutex<State>>::default();
        let keeper = Keeper { state: Arc::clone(&state), stub: server.stub() };
        let serve = Transport::builder()
            .add_service(SessionServiceServer::new(keeper))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let serving = tokio::spawn(async move { serve.await.expect("it serves") });
        Self { address, state, serving }
    }

    /// Its address, for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many calls have come so far.
    pub fn taken(&self) -> Taken {
        self.state.lock().expect("no test panicked with it").taken
    }

    /// What this takes.
    pub async fn cost_of<T>(&self, what: impl Future<Output = T>) -> (T, Taken) {
        let before = self.taken();
        let outcome = what.await;
        let after = self.taken();
        let [opens, saves, destroys] =
            [after.opens - before.opens, after.saves - before.saves, after.destroys - before.destroys];
        (outcome, Taken { opens, saves, destroys })
    }

    /// Holds up the next call of this kind: the server has not seen it yet.
    pub fn hold(&self, call: Call) -> Held {
        self.hold_either(call, false)
    }

    /// Holds up the answer to the next call of this kind: the server has done what was asked.
    pub fn hold_answer(&self, call: Call) -> Held {
        self.hold_either(call, true)
    }

    fn hold_either(&self, call: Call, answer: bool) -> Held {
        let ((here, arrived), (go, released)) = (oneshot::channel(), oneshot::channel());
        let hold = Hold { call, answer, here, released };
        self.state.lock().expect("no test panicked with it").holds.push(hold);
        Held { arrived, go }
    }

    /// Refuses the next call of this kind: it never reaches the server.
    pub fn refuse(&self, call: Call, status: Status) {
        self.state.lock().expect("no test panicked with it").refusals.push((call, status));
    }
}

impl Held {
    /// Waits until the call is there.
    pub async fn arrived(&mut self) {
        let arrived = tokio::time::timeout(crate::PATIENCE, &mut self.arrived).await;
        arrived.expect("the call comes").expect("the gate stands");
    }

    /// Lets it pass.
    pub fn release(self) {
        self.go.send(()).expect("it still waits");
    }

    /// Waits until nobody waits for it any more.
    pub async fn given_up(mut self) {
        tokio::time::timeout(crate::PATIENCE, self.go.closed()).await.expect("its caller gives it up");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Keeper {
    state: Arc<Mutex<State>>,
    stub: Stub,
}

impl Keeper {
    async fn pass<T, A>(
        &self,
        call: Call,
        request: Request<T>,
        forward: impl AsyncFnOnce(Stub, Request<T>) -> Result<Response<A>, Status>,
    ) -> Result<Response<A>, Status> {
        self.count(call)?;
        self.wait(call, false).await;
        let (metadata, _, message) = request.into_parts();
        let request = Request::from_parts(metadata, Extensions::default(), message);
        let answer = forward(self.stub.clone(), request).await;
        self.wait(call, true).await;
        answer
    }

    fn count(&self, call: Call) -> Result<(), Status> {
        let mut state = self.state.lock().expect("no test panicked with it");
        match call {
            Call::Open => state.taken.opens += 1,
            Call::Save => state.taken.saves += 1,
            Call::Destroy => state.taken.destroys += 1,
        }
        let refused = state.refusals.iter().position(|(refused, _)| *refused == call);
        refused.map_or(Ok(()), |at| Err(state.refusals.remove(at).1))
    }

    async fn wait(&self, call: Call, answer: bool) {
        let held = {
            let mut state = self.state.lock().expect("no test panicked with it");
            let at = state.holds.iter().position(|hold| hold.call == call && hold.answer == answer);
            at.map(|at| state.holds.remove(at))
        };
        if let Some(Hold { here, released, .. }) = held {
            // A test that no longer waits for it lets it pass.
            let _ = here.send(());
            let _ = released.await;
        }
    }
}

#[tonic::async_trait]
impl SessionService for Keeper {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        self.pass(Call::Open, request, async |mut stub, request| stub.open(request).await).await
    }

    async fn save(&self, request: Request<SaveRequest>) -> Result<Response<SaveResponse>, Status> {
        self.pass(Call::Save, request, async |mut stub, request| stub.save(request).await).await
    }

    async fn destroy(&self, request: Request<DestroyRequest>) -> Result<Response<DestroyResponse>, Status> {
        self.pass(Call::Destroy, request, async |mut stub, request| stub.destroy(request).await).await
    }
}
