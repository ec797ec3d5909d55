"""How the users of a GPU share it: time slice, compute mode, MPS control daemon. docs/config.md says what users get."""
