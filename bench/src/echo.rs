//! The echo: answers an Open with as many bytes of data as its id asks for, in a message like sessiond's, and nothing else.

use std::collections::HashMap;

use sessiond_proto::{
    RawStruct,
    v1::{
        DestroyRequest, DestroyResponse, OpenRequest, OpenResponse, SaveRequest, SaveResponse, Session,
        session_service_server::SessionService,
    },
};
use tonic::{Request, Response, Status};

use crate::wire;

/// The sizes of data that are measured: 0.2, 0.5, 2 and 16 KiB.
pub const SIZES: [usize; 4] = [205, 512, 2048, 16_384];

/// The handler.
#[derive(Clone, Debug)]
pub struct Echo(HashMap<usize, OpenResponse>);

impl Default for Echo {
    fn default() -> Self {
        Self(SIZES.map(|size| (size, answer(size))).into())
    }
}

/// What sessiond would answer, field by field as long.
fn answer(size: usize) -> OpenResponse {
    let data = RawStruct::from(wire::data(size)).into_bytes();
    let time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 });
    let session = Session {
        id: "e".repeat(65),
        data: Some(RawStruct::from(data)),
        etag: "e".repeat(18),
        handle: "e".repeat(32),
        subject: String::new(),
        idle_timeout: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        create_time: time,
        expire_time: time,
    };
    OpenResponse { session: Some(session) }
}

impl Echo {
    /// What the request asks for.
    ///
    /// # Errors
    /// When it asks for no size that is measured.
    pub fn answer(&self, request: &OpenRequest) -> Result<OpenResponse, Status> {
        self.0.get(&wire::asked(&request.id)).cloned().ok_or_else(|| Status::invalid_argument("no such size"))
    }
}

#[tonic::async_trait]
impl SessionService for Echo {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        self.answer(request.get_ref()).map(Response::new)
    }

    async fn save(&self, _: Request<SaveRequest>) -> Result<Response<SaveResponse>, Status> {
        Err(Status::unimplemented("an echo keeps nothing"))
    }

    async fn destroy(&self, _: Request<DestroyRequest>) -> Result<Response<DestroyResponse>, Status> {
        Err(Status::unimplemented("an echo keeps nothing"))
    }
}
