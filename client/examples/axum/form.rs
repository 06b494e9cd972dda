//! What may come in: forms that were sent from a page of ours.

use axum::{
    Form,
    extract::{FromRequest, FromRequestParts, Request, rejection::FormRejection},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use sessiond_client::axum::{Session, SessionError};

/// A form that was sent from a page of ours, and not by another site in the visitor's name.
///
/// Two lines of defence. The browser itself says where a request comes from (`Sec-Fetch-Site`, in every browser since 2023):
/// that also stops a site that would sign its visitor in here under a name of its own. And whoever is signed in has a token in
/// the session and in each form. Nobody else needs one, so that who only looks is given neither session nor cookie.
pub(crate) struct OurForm<T>(pub(crate) T);

#[derive(Deserialize)]
struct Sent<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    fields: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OurForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        if parts.headers.get("sec-fetch-site").is_none_or(|from| from != "same-origin") {
            return Err(SessionError::Forged.into_response());
        }
        let session = <Session as FromRequestParts<S>>::from_request_parts(&mut parts, state).await;
        let session = session.map_err(SessionError::into_response)?;
        let form = Form::<Sent<T>>::from_request(Request::from_parts(parts, body), state).await;
        let Form(form) = form.map_err(FormRejection::into_response)?;
        if session.subject().is_some() {
            session.check_csrf(&form.csrf).map_err(SessionError::into_response)?;
        }
        Ok(Self(form.fields))
    }
}
