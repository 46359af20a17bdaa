//! What the tests of the intake share.

use ngsi_ferry::record::{Notification, Record};

use crate::common::gateway::{DEADLINE, Gateway};
use crate::common::http;

/// What is in a stream, as it was stored: decoded from the very lines.
pub async fn stored(gateway: &Gateway, stream: &str) -> Vec<Notification> {
    let client = gateway.spark_client();
    let (mut from, mut stored) = (0, Vec::new());
    loop {
        let path = format!("/v1/streams/{stream}/records?from={from}");
        let answer = client.get(gateway.spark_url(&path)).send().await.unwrap();
        if answer.status() == 410 {
            let gone: serde_json::Value =
                serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            from = gone["earliest"].as_u64().unwrap();
            continue;
        }
        assert_eq!(answer.status(), 200, "{stream}");
        from = answer.headers()["ngsi-ferry-next"].to_str().unwrap().parse().unwrap();
        let lines = answer.bytes().await.unwrap();
        if lines.is_empty() {
            return stored;
        }
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        stored.extend(lines.map(|line| Record::decode(line).unwrap().notification));
    }
}

/// The bodies in a stream.
pub async fn bodies(gateway: &Gateway, stream: &str) -> Vec<String> {
    let stored = stored(gateway, stream).await;
    stored.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect()
}

/// All values of a header, in order.
pub fn values<'a>(notification: &'a Notification, name: &str) -> Vec<&'a [u8]> {
    let named = notification.headers.iter().filter(|(other, _)| other == name);
    named.map(|(_, value)| value.as_ref()).collect()
}

/// A notification with this body, to `/notify`.
pub fn post(body: &str) -> Vec<u8> {
    http::request("POST", "/notify", &[], body.as_bytes())
}

/// Sends one, on a connection of its own, and insists on a 204.
pub async fn keep(gateway: &Gateway, raw: &[u8]) {
    assert_eq!(http::once(gateway.intake, raw).await.status, 204);
}

/// Waits until the gateway holds a request in memory.
pub async fn until_in_flight(gateway: &Gateway) {
    // A client made anew for each look is too slow for a busy machine: the
    // request may come and go between two.
    let look = http::bare_request("GET", "/status");
    let held = async {
        let mut admin = http::Client::connect(gateway.admin).await.unwrap();
        while admin.exchange(&look).await.unwrap().json()["bytes_in_flight"] == 0 {}
    };
    tokio::time::timeout(DEADLINE, held).await.expect("no request came in");
}

/// Bytes that no compressor makes smaller.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}
