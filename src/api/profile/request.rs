//! Builds the requests of a profile.
//!
//! A URL that a profile makes is secret as a whole, and no error contains a value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use reqwest::{Method, Request};
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::super::status::ResponseError;
use super::{Exchange, not_sent};
use crate::profile::{Placeholder, RequestBody, Template};

impl Exchange<'_> {
    /// The request, or why it cannot be sent.
    pub(super) fn request(&self) -> Result<Request, ResponseError> {
        let described = &self.call.request;
        let method = Method::from_bytes(described.method.as_bytes())
            .map_err(|_| self.refused("has an invalid HTTP method"))?;
        let mut url = self.base.clone();
        let path = self.rendered(&described.path, percent_encode)?;
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(self.refused("would have a path with a segment `.` or `..`"));
        }
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        for (name, value) in &described.query {
            url.query_pairs_mut().append_pair(name, &self.text(value)?);
        }
        let mut request = Request::new(method, url);
        self.add_headers(request.headers_mut())?;
        let (content_type, body) = match &described.body {
            RequestBody::Empty => {
                if !matches!(*request.method(), Method::GET | Method::DELETE) {
                    // Some servers demand a length (411) where a body is usual.
                    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                return Ok(request);
            }
            RequestBody::Form(pairs) => {
                let mut form = Serializer::new(String::new());
                for (name, value) in pairs {
                    form.append_pair(name, &self.text(value)?);
                }
                ("application/x-www-form-urlencoded", form.finish())
            }
            RequestBody::Json(json) => {
                let body = json.render(&|placeholder| self.values.get(placeholder));
                let body = body.ok_or_else(|| self.without_value(json.placeholders()))?;
                ("application/json", body)
            }
        };
        let content_type = HeaderValue::from_static(content_type);
        request.headers_mut().entry(CONTENT_TYPE).or_insert(content_type);
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    fn add_headers(&self, headers: &mut HeaderMap) -> Result<(), ResponseError> {
        let described = &self.call.request;
        if let Some([user, password]) = &described.basic {
            let (user, password) = (self.text(user)?, self.text(password)?);
            if user.contains(':') {
                return Err(self.refused("has a user name with a colon in `basic`"));
            }
            let pair = Zeroizing::new(format!("{user}:{password}"));
            let value = format!("Basic {}", STANDARD.encode(pair.as_bytes()));
            self.add_header(headers, AUTHORIZATION, &value)?;
        }
        for (name, value) in &described.headers {
            let field = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| self.refused("has an invalid header name"))?;
            self.add_header(headers, field, &self.text(value)?)?;
        }
        Ok(())
    }

    fn add_header(
        &self,
        headers: &mut HeaderMap,
        name: HeaderName,
        value: &str,
    ) -> Result<(), ResponseError> {
        let value = HeaderValue::from_str(value).ok().filter(|_| value.is_ascii());
        let mut value = value.ok_or_else(|| {
            self.refused(format!(
                "would have a header `{name}` with a control character or a character that is not \
                 ASCII: correct the value"
            ))
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }

    fn text(&self, template: &Template) -> Result<String, ResponseError> {
        self.rendered(template, |value, text| text.push_str(value))
    }

    fn rendered(
        &self,
        template: &Template,
        encode: impl Fn(&str, &mut String),
    ) -> Result<String, ResponseError> {
        let text = template.render(|placeholder| self.values.get(placeholder), encode);
        text.ok_or_else(|| self.without_value(template.placeholders().collect()))
    }

    /// The error if one of the `placeholders` of a text has no value.
    fn without_value(&self, placeholders: Vec<&Placeholder>) -> ResponseError {
        let server = self.context.server;
        let missing = placeholders.into_iter().find(|name| self.values.get(name).is_none());
        let (name, remedy) = match missing {
            Some(Placeholder::Refresh) => {
                ("refresh".into(), "the token has no refresh token: set `refresh` of it".into())
            }
            Some(Placeholder::Parameter(name)) => {
                let remedy = format!("add `{name}` to `with` of [server.{server}]");
                (name.to_string(), remedy)
            }
            Some(Placeholder::Minutes) => ("minutes".into(), "only `login` has it".into()),
            _ => ("token".to_owned(), "there is no token value yet".into()),
        };
        self.refused(format!("needs `{{{name}}}`, which has no value: {remedy}"))
    }

    fn refused(&self, reason: impl AsRef<str>) -> ResponseError {
        not_sent(format!(
            "the request of {} for [server.{}] {}",
            self.context.call(),
            self.context.server,
            reason.as_ref()
        ))
    }
}

/// Appends `value` to `text` as a part of a path segment.
fn percent_encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}
