//! One Orion notification, rendered once and then changed in place: building a
//! new one for each request would cost the client more than sending it.
//!
//! The store compresses, so what repeats and what does not decides what is
//! measured: identifiers, sensor values at full precision and the time of each
//! sample change from one request to the next, and almost nothing is padding.

use std::time::{SystemTime, UNIX_EPOCH};

pub const BODY_BYTES: usize = 600;
/// As many things as a larger plant hall reports on.
const ENTITIES: u64 = 200;
const ATTRIBUTES: [(&str, &str); 3] = [("temperature", "2"), ("pressure", "1"), ("power", "4")];
/// Sensors sample on their own; the broker sends within a minute.
const SAMPLED_WITHIN_MS: u64 = 60_000;

/// Where the digits of a changing value stand in the request.
#[derive(Clone, Copy)]
struct Slot {
    at: usize,
    width: usize,
    base: u64,
}

struct Attribute {
    value: [Slot; 2],
    sampled: [Slot; 4],
}

pub struct Notification {
    request: Vec<u8>,
    correlator: Slot,
    entity: Slot,
    line: Slot,
    lot: Slot,
    attributes: [Attribute; 3],
    random: u64,
}

impl Notification {
    /// `seed` tells the connections apart: no two send the same values.
    pub fn new(host: &str, path: &str, seed: u64) -> Self {
        // The headers of Orion 4.7 as it sent them, in its order and case.
        let mut request = Template::default();
        request.text(&format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n\
             User-Agent: orion/4.7.0-next libcurl/7.88.1\r\nFiware-Servicepath: /\r\n\
             Accept: application/json\r\nContent-Length: {BODY_BYTES}\r\n\
             Content-Type: application/json; charset=utf-8\r\nFiware-Correlator: "
        ));
        let correlator = request.slot(8, 16);
        request.text(
            "-e663-11f1-a40b-02fc00000001; cbnotif=1\r\nNgsiv2-AttrsFormat: normalized\r\n\r\n",
        );

        let body = request.0.len();
        request.text(r#"{"subscriptionId":"6b02ca0a7877078ce701fe9a","data":[{"id":"#);
        request.text(r#""urn:ngsi-ld:Press:"#);
        let entity = request.slot(16, 16);
        request.text(r#"","type":"Press","#);
        let attributes = ATTRIBUTES.map(|(name, lead)| request.attribute(name, lead));
        request.text(r#""place":{"type":"Text","value":"line "#);
        let line = request.slot(2, 10);
        request.text("/");
        let lot = request.slot(16, 16);
        let end = r#"","metadata":{}}}]}"#;
        let padding = BODY_BYTES.checked_sub(request.0.len() - body + end.len());
        request.text(&".".repeat(padding.expect("the body fits into its padded length")));
        request.text(end);

        Self {
            request: request.0,
            correlator,
            entity,
            line,
            lot,
            attributes,
            random: scatter(seed + 1) | 1,
        }
    }

    /// The next request: another entity, other values, another correlator.
    pub fn next(&mut self) -> &[u8] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = now.as_secs() * 1000 + u64::from(now.subsec_millis());
        let random = self.draw();
        put(&mut self.request, self.correlator, random >> 32);
        let entity = random % ENTITIES;
        put(&mut self.request, self.entity, scatter(entity + 1));
        put(&mut self.request, self.line, entity / 10);
        let lot = self.draw();
        put(&mut self.request, self.lot, lot);
        for index in 0..self.attributes.len() {
            let random = self.draw();
            let ms = now_ms - self.draw() % SAMPLED_WITHIN_MS;
            let attribute = &self.attributes[index];
            put(&mut self.request, attribute.value[0], random >> 50);
            put(&mut self.request, attribute.value[1], random);
            let clock = [ms / 3_600_000 % 24, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000];
            for (slot, value) in attribute.sampled.into_iter().zip(clock) {
                put(&mut self.request, slot, value);
            }
        }
        &self.request
    }

    /// xorshift64: repeatable, and free next to a system call.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Writes the last digits of `value` that the slot has room for.
fn put(request: &mut [u8], slot: Slot, mut value: u64) {
    for place in request[slot.at..slot.at + slot.width].iter_mut().rev() {
        *place = b"0123456789abcdef"[usize::try_from(value % slot.base).unwrap_or_default()];
        value /= slot.base;
    }
}

/// Neighbouring numbers, far apart (the finalizer of splitmix64).
fn scatter(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[derive(Default)]
struct Template(Vec<u8>);

impl Template {
    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn slot(&mut self, width: usize, base: u64) -> Slot {
        let at = self.0.len();
        self.0.resize(at + width, b'0');
        Slot { at, width, base }
    }

    fn slot_after(&mut self, text: &str, width: usize) -> Slot {
        self.text(text);
        self.slot(width, 10)
    }

    /// `lead` is the value's first digit, which JSON does not want to be 0.
    fn attribute(&mut self, name: &str, lead: &str) -> Attribute {
        let value = [
            self.slot_after(&format!(r#""{name}":{{"type":"Number","value":{lead}"#), 1),
            self.slot_after(".", 14),
        ];
        // The date stays as it is: a run over midnight is not worth more.
        let date = time::OffsetDateTime::now_utc().date();
        self.text(r#","metadata":{"TimeInstant":{"type":"DateTime","value":""#);
        let sampled = [
            self.slot_after(&format!("{date}T"), 2),
            self.slot_after(":", 2),
            self.slot_after(":", 2),
            self.slot_after(".", 3),
        ];
        self.text(r#"Z"}}},"#);
        Attribute { value, sampled }
    }
}
