//! Writes answers in the form that the client accepts: JSON or YAML; whole objects, metadata only, or tables.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::status::Status;

/// The form in which an object is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// The whole object.
    #[default]
    Whole,
    /// Its metadata only.
    Metadata,
    /// A table with one row per object.
    Table,
}

/// The forms and formats that a client accepts.
#[derive(Debug, Clone, Default)]
pub(super) struct Accept {
    /// The forms, the preferred one first. Empty: the client accepts none that is served.
    pub(super) forms: Vec<Form>,
    /// Whether YAML is preferred to JSON.
    pub(super) yaml: bool,
    /// The version of the aggregated discovery document, if the client asks for one.
    pub(super) aggregated: Option<&'static str>,
}

impl Accept {
    /// Reads the `Accept` headers.
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let all = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut accept = Self::default();
        let mut first = true;
        for entry in all.flat_map(|value| value.split(',')) {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<&str> = parts.collect();
            let parameter = |name: &str| {
                let mut values = parameters.iter().filter_map(|parameter| parameter.split_once('='));
                values.find(|(key, _)| *key == name).map(|(_, value)| value)
            };
            let json = matches!(media.as_str(), "application/json" | "*/*" | "application/*");
            let yaml = media == "application/yaml";
            if !json && !yaml {
                continue;
            }
            if let (Some("apidiscovery.k8s.io"), Some(version)) = (parameter("g"), parameter("v")) {
                let version = if version == "v2" { "v2" } else { "v2beta1" };
                accept.aggregated = accept.aggregated.or(Some(version));
                continue;
            }
            let form = match parameter("as") {
                None => Form::Whole,
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Form::Metadata,
                Some("Table") => Form::Table,
                Some(_) => continue,
            };
            if first {
                accept.yaml = yaml;
                first = false;
            }
            accept.forms.push(form);
        }
        if headers.get(header::ACCEPT).is_none() {
            accept.forms.push(Form::Whole);
        }
        accept
    }

    /// Returns the form in which objects are sent.
    pub(super) fn form(&self) -> Result<Form, Status> {
        let refused = || {
            let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml";
            Status::new(406, "NotAcceptable", message).with(crate::status::Details::default())
        };
        self.forms.first().copied().ok_or_else(refused)
    }
}

/// The answer to a request, before it is written in the accepted format.
#[derive(Debug)]
pub(super) struct Answer {
    code: u16,
    content: AnswerContent,
    content_type: Option<String>,
    warnings: Vec<String>,
    retry_after: Option<u32>,
}

#[derive(Debug)]
enum AnswerContent {
    Value(Value),
    Json(Bytes),
    Text(String),
    Stream(Body),
}

impl Answer {
    fn new(code: u16, content: AnswerContent) -> Self {
        Self { code, content, content_type: None, warnings: Vec::new(), retry_after: None }
    }

    /// Creates an answer with an object and code 200.
    pub(super) fn value(value: Value) -> Self {
        Self::new(200, AnswerContent::Value(value))
    }

    /// Creates an answer with an object that is JSON already, and code 200.
    pub(super) fn json(json: Bytes) -> Self {
        Self::new(200, AnswerContent::Json(json))
    }

    /// Creates an answer with plain text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        let mut answer = Self::new(200, AnswerContent::Text(text.into()));
        answer.content_type = Some("text/plain; charset=utf-8".to_owned());
        answer
    }

    /// Creates a streaming answer with one line of JSON per event.
    pub(super) fn stream(body: Body) -> Self {
        Self::new(200, AnswerContent::Stream(body))
    }

    /// Creates the answer for a failure.
    pub(super) fn failure(status: &Status) -> Self {
        let mut answer = Self::new(status.code, AnswerContent::Value(status.to_value()));
        answer.retry_after = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|&s| s > 0);
        answer
    }

    /// Creates the answer of the real server for a path under which nothing is served.
    pub(super) fn no_such_path() -> Self {
        Self { code: 404, ..Self::text("404 page not found\n") }
    }

    /// Replaces the code.
    pub(super) fn with_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// Replaces the content type.
    pub(super) fn with_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Adds warnings, which kubectl shows.
    pub(super) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    pub(super) fn into_response(self, accept: &Accept) -> Response<Body> {
        let yaml = accept.yaml && matches!(self.content, AnswerContent::Value(_) | AnswerContent::Json(_));
        let content_type = match (&self.content_type, yaml) {
            (Some(content_type), _) => content_type.as_str(),
            (None, true) => "application/yaml",
            (None, false) => "application/json",
        };
        let content_type = HeaderValue::from_str(content_type);
        let body = match self.content {
            AnswerContent::Value(value) if yaml => Body::from(serde_yaml::to_string(&value).unwrap_or_default()),
            AnswerContent::Json(json) if yaml => {
                let value: Value = serde_json::from_slice(&json).unwrap_or_default();
                Body::from(serde_yaml::to_string(&value).unwrap_or_default())
            }
            AnswerContent::Value(value) => Body::from(value.to_string()),
            AnswerContent::Json(json) => Body::from(json),
            AnswerContent::Text(text) => Body::from(text),
            AnswerContent::Stream(body) => body,
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if let Ok(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        for warning in self.warnings {
            let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                headers.append(header::WARNING, value);
            }
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
