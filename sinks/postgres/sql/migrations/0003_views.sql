-- The names of the interface that are not tables (docs/design.md §14).

CREATE VIEW accounts AS
SELECT account_id, currency, status, tier, partition, normal_side, floor_minor, ceiling_minor, attributes
  FROM account_terms;

-- Credit-normal: balance = credits - debits, available = balance - held - floor. Debit-normal: balance = debits - credits,
-- available = ceiling - balance - held (no ceiling is a ceiling of 0). System accounts have no floor: available is null.
CREATE VIEW balances AS
SELECT t.account_id, t.partition, t.currency, c.debits_posted, c.credits_posted, c.held,
       CASE t.normal_side WHEN 'credit' THEN c.credits_posted - c.debits_posted
                          ELSE c.debits_posted - c.credits_posted END AS balance_minor,
       CASE WHEN t.floor_minor IS NULL THEN NULL
            WHEN t.normal_side = 'credit' THEN c.credits_posted - c.debits_posted - c.held - t.floor_minor
            ELSE coalesce(t.ceiling_minor, 0) - (c.debits_posted - c.credits_posted) - c.held END AS available_minor,
       c.seq
  FROM account_counters AS c
  JOIN account_terms AS t USING (account_key);

CREATE VIEW postings AS
SELECT p.partition, p.seq, p.leg, t.account_id, CASE WHEN p.is_debit THEN 'debit' ELSE 'credit' END AS side,
       p.amount_minor, p.currency
  FROM posting_rows AS p
  JOIN account_terms AS t USING (account_key);

-- Every account with its totals, system accounts summed over the partitions. balance_minor is credits - debits for every
-- account, so that per currency it sums to zero.
CREATE VIEW trial_balance AS
SELECT t.currency, t.account_id, sum(c.debits_posted)::bigint AS debits_posted,
       sum(c.credits_posted)::bigint AS credits_posted, sum(c.credits_posted - c.debits_posted)::bigint AS balance_minor
  FROM account_counters AS c
  JOIN account_terms AS t USING (account_key)
 GROUP BY t.currency, t.account_id;

-- Each leg of an account with the balance behind it, in the account's own sense. The window is partitioned by account_id, so
-- that `WHERE account_id = ...` reaches the index.
CREATE VIEW statement AS
SELECT t.account_id, p.partition, p.seq, p.leg, e.at, e.type, e.request_id,
       CASE WHEN p.is_debit THEN 'debit' ELSE 'credit' END AS side, p.amount_minor, p.currency,
       (sum(CASE WHEN p.is_debit = (t.normal_side = 'debit') THEN p.amount_minor ELSE -p.amount_minor END)
           OVER (PARTITION BY t.account_id, p.partition ORDER BY p.seq, p.leg))::bigint AS balance_minor
  FROM posting_rows AS p
  JOIN account_terms AS t USING (account_key)
  JOIN entries AS e ON e.partition = p.partition AND e.seq = p.seq;

-- What balances would be if it were derived from postings alone; `verify` and operators compare the two (no row: proved).
CREATE VIEW unproved_balances AS
SELECT t.account_id, t.partition, t.currency, c.debits_posted, c.credits_posted,
       coalesce(p.debits, 0)::bigint AS debits_by_postings, coalesce(p.credits, 0)::bigint AS credits_by_postings
  FROM account_terms AS t
  FULL JOIN account_counters AS c USING (account_key)
  FULL JOIN (SELECT account_key, sum(amount_minor) FILTER (WHERE is_debit) AS debits,
                    sum(amount_minor) FILTER (WHERE NOT is_debit) AS credits
               FROM posting_rows GROUP BY account_key) AS p USING (account_key)
 WHERE t.account_id IS NULL
    OR c.debits_posted IS DISTINCT FROM coalesce(p.debits, 0)
    OR c.credits_posted IS DISTINCT FROM coalesce(p.credits, 0);
