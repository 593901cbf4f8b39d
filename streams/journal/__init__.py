"""The journal: framing, the reading rule, the log it is read from and written to, the writer."""
