//! What Spark sends, under arbitrary bytes.

use std::time::SystemTime;

use super::query::Query;
use super::staging::check_rows;
use crate::record::Record;
use crate::write_back::{self, Entry, Request, is_token};

const KNOWN: [&str; 6] = ["from", "until", "epoch", "max_bytes", "wait", "rewind"];

/// The query of a request.
pub fn query(text: &str) {
    let Ok(query) = Query::parse(Some(text), &KNOWN) else { return };
    for name in KNOWN {
        let _ = (query.number(name), query.flag(name), query.duration(name));
        let _ = query.text(name).is_some_and(is_token);
    }
}

/// The rows of a staged attempt; each that is taken comes back as it was.
pub fn rows(data: &[u8]) {
    let _ = check_rows(data);
    if let Ok(record) = Record::decode(data) {
        let _ = Entry::from_record(record);
    }
    let for_orion =
        |row: &Request| ["/v2/", "/ngsi-ld/"].iter().any(|api| row.path.starts_with(api));
    for row in write_back::rows(data).flatten().filter(for_orion) {
        let mut line = Vec::new();
        row.to_line(SystemTime::now()).write_numbered(0, &mut line);
        let record = Record::decode(&line).expect("a line of our own can be read");
        let again = Entry::from_record(record).expect("what Orion is to get");
        let Entry::Request(again) = again else { panic!("{row:?} became {again:?}") };
        assert_eq!((again.method, again.path, again.body), (row.method, row.path, row.body));
    }
}
