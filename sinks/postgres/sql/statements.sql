-- name: find_ledger
-- Whose rows this schema holds: a sink of another ledger, or with another sink_id, must not add its own.
SELECT ledger_id, sink_id, partitions FROM ledger;

-- name: claim_ledger
-- The first sink ever binds the schema; a second one at the same moment gets a unique violation and looks again.
INSERT INTO ledger (ledger_id, sink_id, partitions) VALUES ($1, $2, $3);

-- name: create_position
-- The position behind the genesis. Only where no sink has ever been; at the same moment elsewhere: a unique violation, and the
-- row is there.
INSERT INTO sink_positions (sink_id, ledger_id, partition, sink_epoch, next_offset, epoch, token, lease_seq, seq, chain, at, last)
SELECT $1, $2, $3, 0, $4, $5, $6, $7, $8, $9, $10, $11
 WHERE NOT EXISTS (SELECT FROM sink_positions WHERE sink_id = $1 AND ledger_id = $2 AND partition = $3);

-- name: take_partition
-- From here on nothing that an earlier taker began can be committed: its compare-and-set finds another sink_epoch.
UPDATE sink_positions SET sink_epoch = sink_epoch + 1
 WHERE sink_id = $1 AND ledger_id = $2 AND partition = $3
RETURNING *;

-- name: read_position
-- After an unknown end of a transaction: which position counts, and whose it is.
SELECT * FROM sink_positions WHERE sink_id = $1 AND ledger_id = $2 AND partition = $3;

-- name: advance_positions
-- Compare-and-set: a row that is missing means another taker, or a lost COMMIT answer. Read the row to know which.
UPDATE sink_positions AS p
   SET next_offset = n.next_offset, epoch = n.epoch, token = n.token, lease_seq = n.lease_seq, seq = n.seq, chain = n.chain,
       at = n.at, last = n.last
  FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bytea[],
              $7::bigint[], $8::bigint[], $9::bytea[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bigint[], $14::bytea[])
       AS n (partition, sink_epoch, offset_before, last_before, next_offset, epoch, token, lease_seq, seq, chain, at, last)
 WHERE p.sink_id = $1 AND p.ledger_id = $2 AND p.partition = n.partition
   AND p.sink_epoch = n.sink_epoch AND p.next_offset = n.offset_before AND p.last = n.last_before;

-- name: find_accounts
-- The keys of accounts that are not in the sink's memory.
SELECT account_id, account_key FROM account_terms WHERE partition = $1 AND account_id = ANY ($2::text[]);

-- name: last_account_number
-- New accounts are numbered from here. One descent of the primary key.
SELECT coalesce(max(account_key), $1::bigint << 32) - ($1::bigint << 32)
  FROM account_terms WHERE account_key BETWEEN $1::bigint << 32 AND ($1::bigint << 32) + 4294967295;

-- name: replace_terms
-- Events carry the whole terms of an account; the last of a batch counts.
UPDATE account_terms AS t
   SET status = n.status, tier = n.tier, floor_minor = n.floor_minor, ceiling_minor = n.ceiling_minor, attributes = n.attributes
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::jsonb[])
       AS n (account_key, status, tier, floor_minor, ceiling_minor, attributes)
 WHERE t.account_key = n.account_key;

-- name: apply_deltas
-- One row per account that the batch touched, however often.
UPDATE account_counters AS c
   SET debits_posted = c.debits_posted + d.debits, credits_posted = c.credits_posted + d.credits, seq = d.seq
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS d (account_key, debits, credits, seq)
 WHERE c.account_key = d.account_key;
