//! Orders of events that the ledger must keep its books through.

use super::*;

const EXPIRY: Duration = Duration::from_mins(10);

fn ledger(clients: Clients, window: Window) -> Ledger {
    Ledger::new(clients, window, EXPIRY, 0)
}

/// Takes so many records and sends each as a line of ten bytes.
fn send(ledger: &mut Ledger, id: Id, count: u64, wire: &mut u64) -> Vec<Sequence> {
    let asked = ledger.take(id);
    let until = asked.end.min(asked.start + count);
    ledger.took(id, &asked, until);
    for seq in asked.start..until {
        *wire += 10;
        ledger.sent(id, seq, 10, *wire);
    }
    ledger.done(id);
    (asked.start..until).collect()
}

#[test]
fn what_a_client_had_not_acknowledged_goes_to_another() {
    let mut ledger = ledger(Clients::Share, Window::Records(0));
    let (one, other) = (ledger.join(), ledger.join());
    let (mut wire, mut other_wire) = (0, 0);
    assert_eq!(send(&mut ledger, one, 4, &mut wire), [0, 1, 2, 3]);
    assert_eq!(send(&mut ledger, other, 2, &mut other_wire), [4, 5]);
    ledger.acknowledged(one, 25);
    assert_eq!(ledger.position(), 2);
    ledger.acknowledged(other, 20);
    ledger.leave(one, Instant::now());
    assert_eq!(ledger.position(), 2);
    assert_eq!(send(&mut ledger, other, 1, &mut other_wire), [2]);
    assert_eq!(send(&mut ledger, other, 5, &mut other_wire), [3]);
    assert_eq!(send(&mut ledger, other, 1, &mut other_wire), [6]);
    ledger.acknowledged(other, other_wire);
    assert_eq!(ledger.position(), 7);
}

#[test]
fn what_was_taken_and_not_sent_comes_again() {
    let mut ledger = ledger(Clients::Share, Window::Records(0));
    let one = ledger.join();
    let asked = ledger.take(one);
    ledger.took(one, &asked, 10);
    ledger.sent(one, 3, 10, 10);
    ledger.acknowledged(one, 10);
    assert_eq!(ledger.position(), 4);
    ledger.leave(one, Instant::now());
    let next = ledger.join();
    assert_eq!(ledger.take(next), 4..10);
}

#[test]
fn a_client_that_goes_while_others_read_what_was_given_back_loses_nothing() {
    let mut ledger = ledger(Clients::Share, Window::Records(0));
    let ids = [ledger.join(), ledger.join(), ledger.join()];
    let mut wires = [0; 3];
    for (id, wire) in ids.into_iter().zip(&mut wires) {
        send(&mut ledger, id, 3, wire);
    }
    ledger.leave(ids[1], Instant::now());
    let reading = ledger.take(ids[2]);
    assert_eq!(reading, 3..6);
    ledger.leave(ids[0], Instant::now());
    ledger.took(ids[2], &reading, 4);
    ledger.leave(ids[2], Instant::now());
    let last = ledger.join();
    assert_eq!(ledger.take(last), 0..9);
}

#[test]
fn the_position_trails_by_the_window() {
    for window in [Window::Records(3), Window::Bytes(30)] {
        let mut ledger = ledger(Clients::Share, window);
        let one = ledger.join();
        let mut wire = 0;
        send(&mut ledger, one, 10, &mut wire);
        ledger.acknowledged(one, 20);
        assert_eq!(ledger.position(), 0, "{window:?}");
        ledger.acknowledged(one, 80);
        assert_eq!(ledger.position(), 5, "{window:?}");
        ledger.leave(one, Instant::now());
        let next = ledger.join();
        assert_eq!(ledger.take(next), 5..10, "{window:?}");
    }
}

#[test]
fn each_client_gets_all_and_one_that_comes_back_goes_on_where_it_was() {
    let mut ledger = ledger(Clients::Repeat, Window::Records(0));
    let (one, other) = (ledger.join(), ledger.join());
    let (mut wire, mut other_wire) = (0, 0);
    assert_eq!(send(&mut ledger, one, 4, &mut wire), [0, 1, 2, 3]);
    assert_eq!(send(&mut ledger, other, 9, &mut other_wire).len(), 9);
    ledger.acknowledged(one, 20);
    ledger.acknowledged(other, 90);
    assert_eq!(ledger.position(), 2);
    let then = Instant::now();
    ledger.leave(one, then);
    ledger.expire_places(then);
    assert_eq!(ledger.position(), 2);
    let again = ledger.join();
    assert_eq!(ledger.next(again), 2);
    // A third has missed nothing of what is kept.
    let third = ledger.join();
    assert_eq!(ledger.next(third), 2);
}

#[test]
fn a_place_that_nobody_comes_back_to_holds_the_others_for_its_time_only() {
    let mut ledger = ledger(Clients::Repeat, Window::Records(0));
    let (one, other) = (ledger.join(), ledger.join());
    send(&mut ledger, one, 1, &mut 0);
    let then = Instant::now();
    ledger.leave(one, then);
    let mut wire = 0;
    send(&mut ledger, other, 5, &mut wire);
    ledger.acknowledged(other, wire);
    ledger.expire_places(then + EXPIRY / 2);
    assert_eq!(ledger.position(), 0);
    ledger.expire_places(then + EXPIRY);
    assert_eq!(ledger.position(), 5);
    // The last one's place stays: nobody else reads on.
    ledger.leave(other, then);
    ledger.expire_places(then + 2 * EXPIRY);
    assert_eq!(ledger.position(), 5);
}

#[test]
fn who_comes_and_goes_without_a_record_leaves_no_place() {
    let mut ledger = ledger(Clients::Repeat, Window::Records(0));
    let (one, other) = (ledger.join(), ledger.join());
    ledger.leave(one, Instant::now());
    let mut wire = 0;
    send(&mut ledger, other, 5, &mut wire);
    ledger.acknowledged(other, wire);
    assert_eq!(ledger.position(), 5);
}
