//! The textbook: the three calls as one writes them with tonic's and bb8-redis's READMEs open: a pool with its defaults, a
//! connection checked out for each command (and asked PING before), GET, SETEX, DEL.
//!
//! It promises nothing of what sessiond promises. The data is not decoded, which a textbook would do: so it is cheaper here
//! than it would be.

use bb8_redis::{
    RedisConnectionManager,
    bb8::{Pool, PooledConnection},
};
use bytes::Bytes;
use redis::AsyncCommands;
use sessiond_proto::{
    RawStruct,
    v1::{
        DestroyRequest, DestroyResponse, OpenRequest, OpenResponse, SaveRequest, SaveResponse, Session,
        session_service_server::SessionService,
    },
};
use tonic::{Request, Response, Status};

/// How long a session lives.
const SECONDS: u64 = 86_400;

/// The handler.
#[derive(Clone, Debug)]
pub struct Textbook(Pool<RedisConnectionManager>);

impl Textbook {
    /// Over this Redis.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        Ok(Self(Pool::builder().build(RedisConnectionManager::new(url)?).await?))
    }

    async fn connection(&self) -> Result<PooledConnection<'_, RedisConnectionManager>, Status> {
        self.0.get().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// The key of an id.
pub fn key(id: &str) -> String {
    format!("textbook:{id}")
}

fn failed(error: redis::RedisError) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl SessionService for Textbook {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        let id = request.into_inner().id;
        let data: Option<Vec<u8>> = self.connection().await?.get(key(&id)).await.map_err(failed)?;
        let session = data.map(|data| Session { id, data: Some(Bytes::from(data).into()), ..Default::default() });
        Ok(Response::new(OpenResponse { session: Some(session.unwrap_or_default()) }))
    }

    async fn save(&self, request: Request<SaveRequest>) -> Result<Response<SaveResponse>, Status> {
        let Session { mut id, data, .. } = request.into_inner().session.unwrap_or_default();
        if id.is_empty() {
            // As long as sessiond's.
            id = format!("{}.{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        }
        let data = data.map(RawStruct::into_bytes).unwrap_or_default();
        let mut connection = self.connection().await?;
        let () = connection.set_ex(key(&id), &data[..], SECONDS).await.map_err(failed)?;
        Ok(Response::new(SaveResponse { session: Some(Session { id, ..Default::default() }) }))
    }

    async fn destroy(&self, request: Request<DestroyRequest>) -> Result<Response<DestroyResponse>, Status> {
        let () = self.connection().await?.del(key(&request.into_inner().id)).await.map_err(failed)?;
        Ok(Response::new(DestroyResponse {}))
    }
}
