"""Claims made real on the node: `plan` (pure) says what is to be, `journal` what was done, `act` does it."""
