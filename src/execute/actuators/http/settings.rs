//! `http` in a binding: its keys, and every mistake in them.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use reqwest::{Method, Url};

use super::super::{ActuatorContext, Span, Text, secret_file, tls};
use super::{Body, Credentials, HeaderText, Http, Question, Shape, Statuses};
use crate::base::tree::{FromNode, Node, Position, Problems, Section, Value};
use crate::execute::Actuator;
use crate::execute::template::{Place, Template};
use crate::model::Class;

/// Headers that the connection itself sets.
const RESERVED: [&str; 6] = ["connection", "content-length", "expect", "host", "te", "transfer-encoding"];
const URL_RULE: &str = "expected a URL that begins with http:// or https://";

/// Builds it from its settings.
pub(super) fn build(section: &mut Section<'_>, context: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    let before = section.problems().len();
    let method = method(section);
    let url = url(section, "url", true);
    let headers = headers(section, context);
    let credentials = credentials(section, context, &headers);
    let body = body(section, &headers);
    let expect = section.opt::<Statuses>("expect_status").unwrap_or_else(Statuses::success);
    let idempotency_key_header = section.opt::<Text>("idempotency_key_header").and_then(|name| header(&name.0));
    if section.has("idempotency_key_header") && idempotency_key_header.is_none() {
        section.reject("idempotency_key_header", "expected the name of a header such as Idempotency-Key", None);
    }
    let reach = section.section("tls").map_or_else(Default::default, |mut section| {
        let reach = tls(&mut section, context, false);
        section.finish();
        reach
    });
    let timeout = section.opt::<Span>("timeout").map(|span| span.0);
    let probe = section.section("probe").map(|section| question(section, true));
    let preflight = section.section("preflight").map(|section| question(section, false));
    if context.probe.is_some() {
        section.reject("probe", "expected no program as `probe` beside `http`", Some("ask by `http.probe`".to_owned()));
    }
    if context.class == Class::Keyed && idempotency_key_header.is_none() {
        let text = "class `keyed` without `idempotency_key_header`: after a crash the request is sent again, and the server \
                    is told no key by which it could know it";
        context.warn(section.position(), &section.path_of("idempotency_key_header"), text);
    }
    if section.problems().len() > before {
        return None;
    }
    let (method, (url, shown)) = (method?, url?);
    if is_open(&url) && has_secrets(&headers, &credentials) {
        let text = "secrets are sent without TLS: whoever stands between can read them";
        context.warn(section.position(), &section.path_of("url"), text);
    }
    Some(Arc::new(Http {
        shown: format!("{method} {shown}"),
        method,
        url,
        headers,
        credentials,
        body,
        expect,
        idempotency_key_header,
        reach,
        timeout,
        probe: flat(probe)?,
        preflight: flat(preflight)?,
    }))
}

/// A question that was asked for must be right.
fn flat(question: Option<Option<Question>>) -> Option<Option<Question>> {
    match question {
        Some(None) => None,
        other => Some(other.flatten()),
    }
}

fn method(section: &mut Section<'_>) -> Option<Method> {
    let Some(text) = section.opt::<Text>("method") else { return Some(Method::POST) };
    let known = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::GET];
    let found = known.into_iter().find(|method| method.as_str() == text.0);
    if found.is_none() {
        section.reject("method", "expected one of POST, PUT, PATCH, DELETE, GET", None);
    }
    found
}

/// The template of a URL, and the text of it without its query.
fn url(section: &mut Section<'_>, key: &'static str, fields: bool) -> Option<(Template, String)> {
    let text = section.req::<Text>(key)?.0;
    match checked_url(&text, fields) {
        Ok(taken) => Some(taken),
        Err((rule, hint)) => {
            section.reject(key, &rule, hint);
            None
        }
    }
}

fn checked_url(text: &str, fields: bool) -> Result<(Template, String), (String, Option<String>)> {
    let rule = || (URL_RULE.to_owned(), None);
    let (scheme, rest) = text.split_once("://").ok_or_else(rule)?;
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if scheme.contains("{{") || host.contains("{{") {
        let rule = "expected `{{...}}` in the path or the query only, never in the host".to_owned();
        return Err((rule, Some("a request goes to no other server than the one that the settings name".to_owned())));
    }
    let template = Template::parse(text)?;
    if !fields && !template.is_constant() {
        return Err(("expected no `{{...}}`: it is asked about no order".to_owned(), None));
    }
    let url = Url::parse(&template.sample()).map_err(|_| rule())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.fragment().is_some() {
        return Err(rule());
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "write basic_auth: {username: ..., password_file: ...}".to_owned();
        return Err(("expected a URL without credentials".to_owned(), Some(hint)));
    }
    Ok((template, text.split('?').next().unwrap_or_default().to_owned()))
}

fn header(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !RESERVED.contains(&name.as_str()))
}

fn headers(section: &mut Section<'_>, context: &ActuatorContext) -> Vec<(HeaderName, HeaderText)> {
    let mut taken: Vec<(HeaderName, HeaderText)> = Vec::new();
    let folder = section.path_of("headers");
    for (name, at, node) in section.entries("headers") {
        let path = format!("{folder}.{name}");
        let refuse = |rule: &str, hint| section.problems().push(*at, &path, "", rule, hint);
        let Some(known) = header(name) else {
            refuse("expected the name of a header that the connection does not set itself", None);
            continue;
        };
        if taken.iter().any(|(earlier, _)| *earlier == known) {
            refuse("expected each header once", None);
            continue;
        }
        if let Some(text) = header_text(&known, node, &path, section.problems(), context) {
            taken.push((known, text));
        }
    }
    taken
}

fn header_text(
    name: &HeaderName,
    node: &Node,
    path: &str,
    problems: &Problems,
    context: &ActuatorContext,
) -> Option<HeaderText> {
    if let Value::Map(_) = node.value {
        let mut section = Section::open(node, path, problems)?;
        let file = secret_file(&mut section, "file", context);
        section.finish();
        return file.map(HeaderText::File);
    }
    let text = Text::take(node, path, problems)?.0;
    let refused = if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) {
        Err(("expected a secret to come from a file".to_owned(), Some("write {file: PATH}".to_owned())))
    } else if HeaderValue::from_str(&text).is_err() {
        Err(("expected one line of text".to_owned(), None))
    } else {
        Template::parse(&text)
    };
    match refused {
        Ok(template) => Some(HeaderText::Template(template)),
        Err((rule, hint)) => {
            problems.push(node.at, path, "", &rule, hint);
            None
        }
    }
}

fn credentials(
    section: &mut Section<'_>,
    context: &ActuatorContext,
    headers: &[(HeaderName, HeaderText)],
) -> Credentials {
    let bearer = secret_file(section, "bearer_token_file", context).map(Credentials::Bearer);
    let basic = section.section("basic_auth").and_then(|mut section| {
        let username = section.req::<Text>("username").map(|text| text.0);
        if username.as_ref().is_some_and(|name| name.is_empty() || name.contains(':')) {
            section.reject("username", "expected a name without `:`", None);
        }
        if !section.has("password_file") {
            section.reject("password_file", "missing, expected a path", None);
        }
        let password_file = secret_file(&mut section, "password_file", context);
        section.finish();
        Some(Credentials::Basic { username: username?, password_file: password_file? })
    });
    let by_header = headers.iter().any(|(name, _)| *name == AUTHORIZATION);
    if bearer.is_some() && basic.is_some() {
        section.reject("basic_auth", "expected either `bearer_token_file` or `basic_auth`", None);
    } else if by_header && (bearer.is_some() || basic.is_some()) {
        let key = if bearer.is_some() { "bearer_token_file" } else { "basic_auth" };
        section.reject(key, "expected no header `Authorization` beside it", None);
    }
    bearer.or(basic).unwrap_or(Credentials::None)
}

fn body(section: &mut Section<'_>, headers: &[(HeaderName, HeaderText)]) -> Body {
    let text = section.opt::<Text>("body").map(|text| text.0);
    if let Some(node) = section.node("json") {
        if text.is_some() {
            section.reject("json", "expected either `body` or `json`", None);
        }
        return shape(node, &section.path_of("json"), section.problems()).map_or(Body::None, Body::Json);
    }
    let Some(text) = text else { return Body::None };
    let kind = headers.iter().find(|(name, _)| *name == CONTENT_TYPE).map(|(_, text)| match text {
        HeaderText::Template(template) => template.sample().to_ascii_lowercase(),
        HeaderText::File(_) => String::new(),
    });
    let place = match kind.as_deref().unwrap_or_default() {
        kind if kind.contains("json") => Place::Json,
        kind if kind.contains("x-www-form-urlencoded") => Place::Url,
        _ => Place::Plain,
    };
    let template = match Template::parse(&text) {
        Ok(template) => template,
        Err((rule, hint)) => {
            section.reject("body", &rule, hint);
            return Body::None;
        }
    };
    if place == Place::Json
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&template.sample())
    {
        let rule = format!("expected JSON, as the header Content-Type says: {error}");
        section.reject("body", &rule, Some("write it as `json: {...}`".to_owned()));
    }
    Body::Text(template, place)
}

/// A node as JSON with templates; a text that is quoted, or is neither number nor boolean, is one.
fn shape(node: &Node, path: &str, problems: &Problems) -> Option<Shape> {
    match &node.value {
        Value::Null => Some(Shape::Constant(serde_json::Value::Null)),
        Value::Scalar { text, quoted } => {
            if !quoted {
                if let Ok(flag) = text.parse::<bool>() {
                    return Some(Shape::Constant(flag.into()));
                }
                if let Ok(number) = serde_json::from_str::<serde_json::Number>(text) {
                    return Some(Shape::Constant(serde_json::Value::Number(number)));
                }
            }
            match Template::parse(text) {
                Ok(template) => Some(Shape::Text(template)),
                Err((rule, hint)) => {
                    problems.push(node.at, path, "", &rule, hint);
                    None
                }
            }
        }
        Value::List(items) => {
            let items =
                items.iter().enumerate().map(|(index, item)| shape(item, &format!("{path}[{index}]"), problems));
            items.collect::<Option<Vec<_>>>().map(Shape::List)
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, at, item)| entry(key, *at, item, path, problems));
            entries.collect::<Option<Vec<_>>>().map(Shape::Map)
        }
    }
}

fn entry(key: &str, at: Position, item: &Node, path: &str, problems: &Problems) -> Option<(String, Shape)> {
    let path = format!("{path}.{key}");
    if key.contains("{{") {
        problems.push(at, &path, "", "expected `{{...}}` in values only", None);
        return None;
    }
    Some((key.to_owned(), shape(item, &path, problems)?))
}

fn question(mut section: Section<'_>, of_an_order: bool) -> Option<Question> {
    let url = url(&mut section, "url", of_an_order).map(|(url, _)| url);
    let expect = section.opt::<Statuses>("expect_status").unwrap_or_else(Statuses::success);
    let body = if of_an_order { section.opt::<Text>("expect_body").map(|text| text.0) } else { None };
    section.finish();
    Some(Question { url: url?, expect, body: body.filter(|text| !text.is_empty()) })
}

/// Whether a URL leads off this machine without TLS.
fn is_open(url: &Template) -> bool {
    let Ok(url) = Url::parse(&url.sample()) else { return false };
    let local = url.host_str().is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    url.scheme() == "http" && !local
}

fn has_secrets(headers: &[(HeaderName, HeaderText)], credentials: &Credentials) -> bool {
    !matches!(credentials, Credentials::None) || headers.iter().any(|(_, text)| matches!(text, HeaderText::File(_)))
}

impl FromNode for Statuses {
    const EXPECTED: &'static str = "a status such as 200, a class such as 2xx, or a list of them";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let one = |item: &Node| {
            let Value::Scalar { text, .. } = &item.value else { return None };
            if let Some(class) = text.strip_suffix("xx") {
                let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))?;
                return Some((class * 100, class * 100 + 99));
            }
            let status = text.parse::<u16>().ok().filter(|status| (100..=599).contains(status))?;
            Some((status, status))
        };
        let taken: Option<Vec<_>> = items.iter().map(one).collect();
        taken.filter(|taken| !taken.is_empty()).map(Self).ok_or(None)
    }
}
