"""One file per number: a pure function on stored rows and the definition that says what it means."""
