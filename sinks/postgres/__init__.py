"""The queryable ledger in PostgreSQL: the journal up to a stored position, no gap, no duplicate (docs/design.md §10).

Entry points, each in the module of its name: ``migrations.migrate``, ``migrations.ensure_database``, ``sink.Sink``,
``readers.sink_position``, ``readers.wait_for``. Tables and their reasons: ``sql/migrations``.
"""
