//! What is wrong with a command line, or with the environment, is told in the form that was asked for.

use tempfile::TempDir;

use super::kit::Program;

#[test]
fn wrong_arguments_are_errors_that_say_what_was_meant() {
    for (arguments, message) in [
        (
            &["get", "--json"][..],
            "required arguments were not provided",
        ),
        (
            &["get", "k", "--jsn", "--json"],
            "unexpected argument '--jsn'",
        ),
        (
            &["get", "k", "--timeout", "0s", "--json"],
            "0s is not between 1ms and 1day",
        ),
        (
            &["nonsense", "--json"],
            "unrecognized subcommand 'nonsense'",
        ),
        (&["tenant", "--json"], "--json"),
    ] {
        let done = Program::new(arguments).run().exits(2);
        let error = done.error();
        assert_eq!(error["code"], "USAGE", "{done}");
        assert_eq!(error["exit_code"], 2, "{done}");
        let said = error["message"].as_str().unwrap();
        assert!(said.contains(message), "{done}");
        assert!(!error["hint"].as_str().unwrap().is_empty(), "{done}");
    }
    let done = Program::new(&["get"]).run().exits(2).complains("Usage:");
    assert!(done.stderr().starts_with("error: "), "{done}");
}

/// Before anything is served, or asked for.
#[test]
fn a_wrong_variable_is_an_error_that_says_which_was_meant() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().to_str().unwrap();
    for arguments in [
        &["dev", "--data", data, "--json"][..],
        &["get", "k", "--json"],
    ] {
        let wrong = Program::new(arguments).env("PAIRDB_AUTH_MODE", "required");
        let done = wrong.run().exits(2);
        let error = done.error();
        assert_eq!(error["code"], "CONFIGURATION", "{done}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.ends_with("did you mean PAIRDB_AUTH__MODE?"),
            "{message}"
        );
    }
}
