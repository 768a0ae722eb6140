use super::*;

#[test]
fn a_younger_record_waits_for_an_older_one() {
    let publisher = Publisher::new(SeqNum::new(0), Index::FIRST);
    let older = publisher.begin();
    let younger = publisher.begin();
    std::thread::scope(|scope| {
        scope.spawn(|| younger.publish(Index::new(2), SeqNum::new(9)));
        // The younger one is in, but the older one is not: nothing may be visible.
        while lock(&publisher.state).writing == 2 {
            std::thread::yield_now();
        }
        assert_eq!(publisher.visible(), SeqNum::new(0));
        older.publish(Index::new(1), SeqNum::new(5));
    });
    assert_eq!(publisher.visible(), SeqNum::new(9));
}

#[test]
fn a_failed_record_holds_nobody_up() {
    let publisher = Publisher::new(SeqNum::new(0), Index::new(1));
    let failing = publisher.begin();
    let other = publisher.begin();
    std::thread::scope(|scope| {
        scope.spawn(|| other.publish(Index::new(2), SeqNum::new(2)));
        while lock(&publisher.state).writing == 2 {
            std::thread::yield_now();
        }
        assert_eq!(publisher.visible(), SeqNum::new(0));
        drop(failing);
    });
    assert_eq!(publisher.visible(), SeqNum::new(2));
    publisher.begin().publish(Index::new(3), SeqNum::new(3));
    assert_eq!(publisher.visible(), SeqNum::new(3));
}
