//! HTTP responses: status line, headers and body.

use std::io::{self, Write};

/// Writes a whole response. Without the body (for a HEAD request) its length is still in the headers.
///
/// # Errors
/// When the stream cannot be written.
pub fn respond(stream: &mut impl Write, status: u16, kind: &str, body: &[u8], with_body: bool) -> io::Result<()> {
    let mut bytes = head(status, kind, Some(body.len()));
    if with_body {
        bytes.extend_from_slice(body);
    }
    stream.write_all(&bytes)
}

/// Returns a status line with headers. Without a length, the body lasts until the connection closes.
pub fn head(status: u16, kind: &str, length: Option<usize>) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad HttpRequest",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "HttpRequest Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        431 => "HttpRequest Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    };
    let length = length.map(|bytes| format!("Content-Length: {bytes}\r\n")).unwrap_or_default();
    // The page loads nothing from other origins, may not be framed, and is not cached.
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\n\
         Content-Type: {kind}\r\n\
         {length}\
         Connection: close\r\n\
         Cache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\n\
         X-Content-Type-Options: nosniff\r\n\
         X-Frame-Options: DENY\r\n\
         Referrer-Policy: no-referrer\r\n\r\n"
    );
    text.into_bytes()
}
