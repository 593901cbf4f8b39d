-- What readers of the ledger ask. Each is one or two descents of an index.

-- name: balance
-- A customer's account stands once; a system account once per partition.
SELECT * FROM balances WHERE account_id = $1 ORDER BY partition;

-- name: statement
-- The last $2 legs of an account, newest first, each with the balance behind it.
SELECT * FROM statement WHERE account_id = $1 ORDER BY partition, seq DESC, leg DESC LIMIT $2;

-- name: outcomes_of_request
-- Every answer to a request id, replays included, in the order of each partition; ids are unique per account only.
SELECT partition, seq, account_id, binding, replayed, outcome FROM decisions WHERE request_id = $1 ORDER BY partition, seq;

-- name: decision
-- One transaction with its explanation.
SELECT * FROM decisions WHERE partition = $1 AND seq = $2;

-- name: legs
-- The postings of one transaction.
SELECT * FROM postings WHERE partition = $1 AND seq = $2 ORDER BY leg;

-- name: unbalanced_currencies
-- No row: the ledger balances.
SELECT currency, sum(balance_minor)::bigint AS difference_minor FROM trial_balance GROUP BY currency HAVING sum(balance_minor) <> 0;

-- name: unproved_balances
-- No row: every balance is the sum of its postings.
SELECT * FROM unproved_balances;

-- name: written_seq
-- How far the rows of a partition go.
SELECT seq FROM sink_positions WHERE sink_id = $1 AND partition = $2;
