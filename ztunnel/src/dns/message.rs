//! DNS messages: reading a query, writing an answer that fits. Pure; every byte string is a
//! query, gets a refusal, or is dropped.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::limits::{ADVERTISED, PLAIN_ANSWER, TTL, UDP_ANSWER};

/// A query with one question.
#[derive(Clone, Debug)]
pub struct Query {
    message: Message,
    /// The name asked for, as text: lower case, no dot at the end; `None` if it is not plain
    /// ASCII or not a host name's form, which no name of the mesh is.
    pub name: Option<String>,
    /// What is asked for.
    pub kind: RecordType,
}

/// What bytes are, if not a query.
#[derive(Debug)]
pub enum NotAQuery {
    /// Nothing to be answered: too short, or an answer itself (answering could make a loop).
    Drop,
    /// To be answered with this refusal.
    Refuse(Vec<u8>),
}

/// How an answer travels, which bounds its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

impl Transport {
    /// Value of the metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Reads a query.
///
/// # Errors
/// What to do with bytes that are none.
pub fn decode(bytes: &[u8]) -> Result<Query, NotAQuery> {
    let &[id0, id1, flags, _, ..] = bytes else {
        return Err(NotAQuery::Drop);
    };
    if bytes.len() < 12 || flags & 0x80 != 0 {
        return Err(NotAQuery::Drop);
    }
    let id = u16::from_be_bytes([id0, id1]);
    let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
    let refuse = |code| NotAQuery::Refuse(encode(&Message::error_msg(id, op_code, code)));
    if op_code != OpCode::Query {
        return Err(refuse(ResponseCode::NotImp));
    }
    let message = Message::from_vec(bytes).map_err(|_| refuse(ResponseCode::FormErr))?;
    let [question] = &message.queries[..] else {
        return Err(refuse(ResponseCode::FormErr));
    };
    if message.metadata.message_type != MessageType::Query {
        return Err(NotAQuery::Drop);
    }
    let name = (question.query_class() == DNSClass::IN)
        .then(|| plain_name(question.name()))
        .flatten();
    let kind = question.query_type();
    Ok(Query {
        message,
        name,
        kind,
    })
}

/// Labels of letters, digits, `-` and `_` (and a leading `*` as text); anything else could be
/// written in several ways.
fn plain_name(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if label.is_empty() || !label.iter().all(plain) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    (!text.is_empty()).then_some(text)
}

impl Query {
    /// The most bytes an answer may have.
    #[must_use]
    pub fn room(&self, transport: Transport) -> usize {
        match (transport, &self.message.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN_ANSWER,
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.max_payload()).clamp(PLAIN_ANSWER, UDP_ANSWER)
            }
        }
    }

    /// The name for the log: bounded and printable.
    #[must_use]
    pub fn shown_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            self.message
                .queries
                .first()
                .map(|q| q.name().to_ascii())
                .unwrap_or_default()
        })
    }

    /// An authoritative answer: the addresses of `owner`, which the asked name stands for. No
    /// address means that the name has none of this kind.
    #[must_use]
    pub fn answer(&self, owner: &str, addresses: &[IpAddr], transport: Transport) -> Vec<u8> {
        let mut reply = self.reply(ResponseCode::NoError);
        reply.metadata.authoritative = true;
        if let Some(asked) = self.message.queries.first().map(|q| q.name().clone()) {
            let mut name = asked.clone();
            if self.name.as_deref() != Some(owner)
                && let Ok(target) = Name::from_ascii(format!("{owner}."))
            {
                let link = RData::CNAME(CNAME(target.clone()));
                reply.add_answer(Record::from_rdata(asked, TTL, link));
                name = target;
            }
            for address in addresses {
                let data = match address {
                    IpAddr::V4(v4) => RData::A(A(*v4)),
                    IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
                };
                reply.add_answer(Record::from_rdata(name.clone(), TTL, data));
            }
        }
        fit(reply, self.room(transport))
    }

    /// An answer with a code and nothing else.
    #[must_use]
    pub fn failure(&self, code: ResponseCode) -> Vec<u8> {
        encode(&self.reply(code))
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let asked = &self.message.metadata;
        let mut reply = Message::response(asked.id, OpCode::Query);
        reply.metadata.recursion_desired = asked.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.add_queries(self.message.queries.iter().cloned());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(ADVERTISED);
            reply.set_edns(edns);
        }
        reply
    }

    /// Whether `answer` answers this question: same name, in whatever case, and type.
    #[must_use]
    pub fn is_answered_by(&self, answer: &Message) -> bool {
        let (Some(asked), [answered]) = (self.message.queries.first(), &answer.queries[..]) else {
            return false;
        };
        answer.metadata.message_type == MessageType::Response
            && asked.query_type() == answered.query_type()
            && asked.query_class() == answered.query_class()
            && asked.name().to_lowercase() == answered.name().to_lowercase()
    }

    /// A forwarded answer as the client can take it: cut down with TC set if it is too long.
    #[must_use]
    pub fn pass_on(&self, mut bytes: Vec<u8>, transport: Transport) -> Vec<u8> {
        if let Some(id) = bytes.get_mut(..2) {
            id.copy_from_slice(&self.message.metadata.id.to_be_bytes());
        }
        let room = self.room(transport);
        if bytes.len() <= room {
            return bytes;
        }
        match Message::from_vec(&bytes) {
            Ok(message) => fit(message, room),
            Err(_) => self.failure(ResponseCode::ServFail),
        }
    }
}

/// Leaves records out until it fits, and says so with TC.
fn fit(mut message: Message, room: usize) -> Vec<u8> {
    let bytes = encode(&message);
    if bytes.len() <= room {
        return bytes;
    }
    message.metadata.truncation = true;
    message.authorities.clear();
    message.additionals.clear();
    loop {
        let bytes = encode(&message);
        if bytes.len() <= room || message.answers.is_empty() {
            return bytes;
        }
        // In proportion, so that a long list takes few rounds.
        let keep = message.answers.len() * room / bytes.len().max(1);
        message
            .answers
            .truncate(keep.min(message.answers.len() - 1));
    }
}

/// What was decoded or built here can be encoded; if not, an empty datagram is not sent.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query as Question;
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    fn addresses(count: u8) -> Vec<IpAddr> {
        (0..count).map(|n| IpAddr::from([10, 0, 0, n])).collect()
    }

    #[test]
    fn an_answer_is_authoritative_and_fits() {
        for (payload, transport, room) in [
            (None, Transport::Udp, 512),
            (Some(100), Transport::Udp, 512),
            (Some(1232), Transport::Udp, 1232),
            (Some(65535), Transport::Udp, 4096),
            (None, Transport::Tcp, 65535),
        ] {
            let query = decode(&query("Web.Shop.", RecordType::A, payload)).unwrap();
            assert_eq!(query.name.as_deref(), Some("web.shop"));
            let bytes = query.answer("web.shop", &addresses(250), transport);
            assert!(bytes.len() <= room, "{} > {room}", bytes.len());
            let answer = Message::from_vec(&bytes).unwrap();
            assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
            assert_eq!(answer.metadata.truncation, answer.answers.len() < 250);
            assert!(!answer.answers.is_empty());
            assert!(answer.answers.iter().all(|record| record.ttl == TTL));
            assert_eq!(answer.edns.is_some(), payload.is_some());
            assert!(query.is_answered_by(&answer));
        }
    }

    #[test]
    fn another_owner_is_linked_by_a_cname() {
        let query = decode(&query("a.b.", RecordType::A, None)).unwrap();
        let answer = Message::from_vec(&query.answer("a", &addresses(1), Transport::Udp)).unwrap();
        assert_eq!(answer.answers.len(), 2);
        assert_eq!(answer.answers[0].record_type(), RecordType::CNAME);
        let empty = Message::from_vec(&query.answer("a.b", &[], Transport::Udp)).unwrap();
        assert!(empty.answers.is_empty());
        assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
    }

    #[test]
    fn what_is_no_query_is_refused_or_dropped() {
        let good = query("a.b.", RecordType::A, None);
        assert!(matches!(decode(&[]), Err(NotAQuery::Drop)));
        assert!(matches!(decode(&good[..11]), Err(NotAQuery::Drop)));
        let mut response = good.clone();
        response[2] |= 0x80;
        assert!(matches!(decode(&response), Err(NotAQuery::Drop)));
        let refused = |bytes: &[u8]| match decode(bytes) {
            Err(NotAQuery::Refuse(answer)) => {
                let answer = Message::from_vec(&answer).unwrap();
                assert_eq!(answer.metadata.id.to_be_bytes(), bytes[..2]);
                answer.metadata.response_code
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&good[..good.len() - 1]), ResponseCode::FormErr);
        let mut none = good.clone();
        none[5] = 0;
        assert_eq!(refused(&none), ResponseCode::FormErr);
        let mut update = good;
        update[2] |= 5 << 3;
        assert_eq!(refused(&update), ResponseCode::NotImp);
    }

    #[test]
    fn names_that_are_no_host_names_are_not_ours() {
        for name in ["a\\.b.c.", "."] {
            let query = decode(&query(name, RecordType::A, None)).unwrap();
            assert_eq!(query.name, None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(query) = decode(&bytes) {
                prop_assert!(query.failure(ResponseCode::ServFail).len() >= 12);
                let passed = query.pass_on(bytes.clone(), Transport::Udp);
                prop_assert!(passed.len() <= UDP_ANSWER);
            }
        }
    }
}
