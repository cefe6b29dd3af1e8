//! Row 5: capabilities of a payload, exactly.

use crate::{
    DEFAULT, NET_ADMIN, Running, WAIT, fields, sets,
    support::{Ctr, User},
};
use std::collections::BTreeMap;

/// Fields of /proc/1/status in a container with `options`.
fn status(ctr: &Ctr, options: &[&str]) -> BTreeMap<String, String> {
    fields(&ctr.payload(options, &["cat", "/proc/1/status"]).ok())
}

#[test]
fn capabilities_are_exact() {
    const ALL_USERS: [&[&str]; 2] = [&[], &["--init"]];
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        for more in ALL_USERS {
            let sets_of = |options: &[&str]| sets(&status_of_payload(&ctr, &[more, options].concat()));
            assert_eq!(sets_of(&[]), [0, DEFAULT, DEFAULT, DEFAULT, 0], "as {user:?} {more:?}");
            let added = DEFAULT | NET_ADMIN;
            assert_eq!(
                sets_of(&["--cap-add=net_admin"]),
                [0, added, added, added, 0],
                "as {user:?} {more:?}"
            );
            assert_eq!(sets_of(&["--cap-drop=all"]), [0; 5], "as {user:?} {more:?}");
            // A namespace of one id has no other user.
            if user == User::Single {
                continue;
            }
            assert_eq!(sets_of(&["-u", "user"]), [0, 0, 0, DEFAULT, 0], "as {user:?} {more:?}");
            assert_eq!(
                sets_of(&["-u", "1000", "--cap-add=net_admin"]),
                [NET_ADMIN, NET_ADMIN, NET_ADMIN, added, NET_ADMIN],
                "as {user:?} {more:?}"
            );
            assert_eq!(sets_of(&["-u", "1000", "--privileged"])[..3], [0; 3], "as {user:?} {more:?}");
        }
    }
}

/// [`status`] of the payload, whichever process it is.
fn status_of_payload(ctr: &Ctr, options: &[&str]) -> BTreeMap<String, String> {
    fields(&ctr.payload(options, &["cat", "/proc/self/status"]).ok())
}

#[test]
fn an_init_of_ours_has_no_more_than_its_payload() {
    let ctr = Ctr::with_box(User::Rootless);
    let status = status(&ctr, &["--init"]);
    assert_eq!((status["Name"].as_str(), sets(&status)), ("ctr-init", [0, DEFAULT, DEFAULT, DEFAULT, 0]));
    assert_eq!(status["Seccomp"], "2");
}

#[test]
fn no_new_privileges_and_the_filter_are_as_asked() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let of = |options: &[&str]| {
            let status = status(&ctr, options);
            (status["NoNewPrivs"].clone(), status["Seccomp"].clone())
        };
        let expected = |privileges: &str, seccomp: &str| (privileges.to_owned(), seccomp.to_owned());
        assert_eq!(of(&[]), expected("0", "2"), "as {user:?}");
        assert_eq!(of(&["--security-opt=no-new-privileges"]), expected("1", "2"), "as {user:?}");
        assert_eq!(of(&["--security-opt=seccomp=unconfined"]), expected("0", "0"), "as {user:?}");
    }
}

#[test]
fn who_joins_has_no_more_than_the_first_process() {
    for &user in User::all() {
        for (options, privileges) in [(&[][..], "0"), (&["--security-opt=no-new-privileges"], "1")] {
            let c = Running::new(Ctr::with_box(user), "box", options, WAIT);
            let own = |options: &[&str]| fields(&c.exec(options, &["cat", "/proc/self/status"]).ok());
            let status = own(&[]);
            assert_eq!(sets(&status), [0, DEFAULT, DEFAULT, DEFAULT, 0], "as {user:?} {options:?}");
            assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), (privileges, "2"));
            // A namespace of one id has no other user.
            if user != User::Single {
                assert_eq!(sets(&own(&["-u", "1000"])), [0, 0, 0, DEFAULT, 0], "as {user:?} {options:?}");
            }
        }
    }
}
