//! Encodes and reads the packets of MQTT 3.1.1 for a client that only publishes: CONNECT, PUBLISH, PINGREQ, DISCONNECT, and the answers.

/// Longest answer of a broker that is read. A client that has not subscribed gets a few bytes.
const MAX_ANSWER: usize = 4096;

/// Settings sent when a connection begins.
#[derive(Clone, Debug)]
pub(super) struct Connect<'a> {
    pub client_id: &'a str,
    /// The will: the broker publishes this when the connection breaks, and retains it.
    pub will: Message<'a>,
    pub credentials: Option<&'a (String, String)>,
    /// Longest silence of the client, s.
    pub keep_alive_s: u16,
}

/// A retained message: the broker keeps it for later subscribers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
}

/// A packet of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The answer to CONNECT: 0, or the reason for a refusal.
    Connected(u8),
    Pong,
    Other,
}

/// Error for bytes that are not an MQTT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server does not speak MQTT 3.1.1")]
pub(super) struct NotMqtt;

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    // Longer ones were refused with the arguments.
    let length = bytes.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(length as u16).to_be_bytes());
    out.extend_from_slice(&bytes[..length]);
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        packet.push(digit | if length > 0 { 0x80 } else { 0 });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// Returns CONNECT with a clean session.
pub(super) fn connect(connect: &Connect) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    // Clean session; a will that is kept, of quality 1.
    let mut flags = 0x02 | 0x04 | 0x08 | 0x20;
    if connect.credentials.is_some() {
        flags |= 0x80 | 0x40;
    }
    body.extend_from_slice(&[4, flags]);
    body.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    text(&mut body, connect.client_id.as_bytes());
    text(&mut body, connect.will.topic.as_bytes());
    text(&mut body, connect.will.payload);
    if let Some((user, password)) = connect.credentials {
        text(&mut body, user.as_bytes());
        text(&mut body, password.as_bytes());
    }
    packet(0x10, &body)
}

/// Returns PUBLISH with QoS 0 and the retain flag.
pub(super) fn publish(message: Message) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, message.topic.as_bytes());
    body.extend_from_slice(message.payload);
    packet(0x31, &body)
}

/// PINGREQ.
pub(super) const PING: [u8; 2] = [0xc0, 0];
/// DISCONNECT: the broker does not publish the will.
pub(super) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Takes the first whole packet out of what has arrived; `None` when more bytes are needed.
///
/// # Errors
/// When the bytes are not a packet, or its length is too large.
pub(super) fn take_answer(bytes: &mut Vec<u8>) -> Result<Option<Answer>, NotMqtt> {
    let (mut length, mut digits) = (0usize, 0);
    loop {
        let Some(&digit) = bytes.get(1 + digits) else { return Ok(None) };
        length |= usize::from(digit & 0x7f) << (7 * digits);
        digits += 1;
        match digit & 0x80 {
            0 => break,
            _ if digits == 4 => return Err(NotMqtt),
            _ => {}
        }
    }
    if length > MAX_ANSWER {
        return Err(NotMqtt);
    }
    let whole = 1 + digits + length;
    if bytes.len() < whole {
        return Ok(None);
    }
    let answer = match (bytes[0], &bytes[1 + digits..whole]) {
        (0x20, [_, code]) => Answer::Connected(*code),
        (0xd0, []) => Answer::Pong,
        (0x20 | 0xd0, _) => return Err(NotMqtt),
        _ => Answer::Other,
    };
    bytes.drain(..whole);
    Ok(Some(answer))
}

/// Explains the refusal of a broker.
pub(super) fn refusal(code: u8) -> &'static str {
    match code {
        1 => "the broker refuses MQTT 3.1.1",
        2 => "the broker refuses the client's name",
        3 => "the broker is not available",
        4 => "the broker refuses user name or password",
        5 => "the broker does not permit this client: does it need a user name and password?",
        _ => "the broker refuses the connection",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_the_bytes_of_the_standard() {
        let will = Message { topic: "a", payload: b"off" };
        let credentials = ("u".to_owned(), "p".to_owned());
        let mut packet = Connect { client_id: "c", will, credentials: None, keep_alive_s: 30 };
        assert_eq!(connect(&packet), b"\x10\x15\0\x04MQTT\x04\x2e\0\x1e\0\x01c\0\x01a\0\x03off");
        packet.credentials = Some(&credentials);
        assert!(connect(&packet).ends_with(b"\0\x03off\0\x01u\0\x01p") && connect(&packet)[9] == 0xee);
        assert_eq!(publish(will), b"\x31\x06\0\x01aoff");
        let long = publish(Message { topic: "t", payload: &[7; 200] });
        assert_eq!((&long[..3], long.len()), ([0x31, 0xcb, 0x01].as_slice(), 3 + 203));
    }

    #[test]
    fn answers_may_arrive_in_pieces() {
        let bytes = b"\x20\x02\x00\x05\xd0\x00\x90\x03\x00\x01\x00";
        let (mut arrived, mut answers) = (Vec::new(), Vec::new());
        for byte in bytes {
            arrived.push(*byte);
            answers.extend(take_answer(&mut arrived).expect("packets"));
        }
        assert_eq!(answers, [Answer::Connected(5), Answer::Pong, Answer::Other]);
        for wrong in [b"HTTP/1.1 400".as_slice(), b"\x20\xff\xff\xff\xff", b"\x20\x01\x00", b"\xd0\x01\x00"] {
            let mut bytes = wrong.to_vec();
            let answer = take_answer(&mut bytes);
            assert!(answer == Err(NotMqtt) || answer == Ok(None), "{wrong:?}: {answer:?}");
        }
        assert!(take_answer(&mut b"\x20\xff\xff\xff\xff".to_vec()).is_err() && refusal(4).contains("password"));
    }
}
