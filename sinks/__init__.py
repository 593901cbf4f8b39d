"""What is derived from the journal and kept elsewhere: the queryable ledger in PostgreSQL (``sinks.postgres``)."""
