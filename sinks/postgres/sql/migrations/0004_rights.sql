-- The writer role may add rows and advance what advances; nothing in the ledger can be deleted or rewritten by it.
GRANT INSERT ON ledger, sink_positions, account_terms, account_counters, entries, posting_rows, decisions,
    config_pickups, skips TO ledgerline_writer;
GRANT UPDATE (sink_epoch, next_offset, epoch, token, lease_seq, seq, chain, at, last) ON sink_positions TO ledgerline_writer;
GRANT UPDATE (status, tier, floor_minor, ceiling_minor, attributes) ON account_terms TO ledgerline_writer;
GRANT UPDATE (debits_posted, credits_posted, held, seq) ON account_counters TO ledgerline_writer;

DO $$ BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO ledgerline_writer, ledgerline_reader', current_schema());
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO ledgerline_writer, ledgerline_reader', current_schema());
END $$;
