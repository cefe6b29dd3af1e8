//! Detach keys: typed at once or in pieces, the same goes through and the same detaches.
#![no_main]

use ctr::monitor::keys::Keys;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Vec<&[u8]>)| {
    let (sequence, pieces) = input;
    let Ok(keys) = Keys::parse(sequence) else { return };
    let whole = keys.clone().scan(&pieces.concat());
    let (mut in_pieces, mut passed) = (keys, Vec::new());
    for piece in pieces {
        let (more, detached) = in_pieces.scan(piece);
        passed.extend(more);
        if detached {
            assert_eq!((passed, true), whole, "{sequence:?}");
            return;
        }
    }
    assert_eq!((passed, false), whole, "{sequence:?}");
});
