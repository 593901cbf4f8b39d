-- The ledger's tables. Accounts have integer keys inside: text keys made balance updates 1.6 times as expensive. What other
-- programs read are the names of the interface (docs/design.md §14), some of which are views (0003_views.sql).
-- CHECKs repeat the engine's assertions: what it can never decide cannot be written either.

-- One ledger and one sink_id per schema, for ever: a rebuild fills a schema of its own, is compared, then switched.
CREATE TABLE ledger (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    ledger_id  uuid    NOT NULL,
    sink_id    text    NOT NULL,
    partitions integer NOT NULL CHECK (partitions > 0)
);

-- The whole position of a reader (docs/design.md §3); the only guard against a gap or a duplicate.
-- Hot: one row per partition, updated by every batch. The low fillfactor keeps its versions on one page.
CREATE TABLE sink_positions (
    sink_id     text    NOT NULL,
    ledger_id   uuid    NOT NULL,
    partition   integer NOT NULL CHECK (partition >= 0),
    sink_epoch  bigint  NOT NULL CHECK (sink_epoch >= 0),
    next_offset bigint  NOT NULL CHECK (next_offset > 0),
    epoch       bigint  NOT NULL CHECK (epoch >= 0),
    token       bytea   NOT NULL CHECK (length(token) = 16),
    lease_seq   bigint  NOT NULL CHECK (lease_seq BETWEEN 0 AND seq),
    seq         bigint  NOT NULL CHECK (seq >= 0),
    chain       bytea   NOT NULL CHECK (length(chain) = 32),
    at          bigint  NOT NULL CHECK (at >= 0),
    last        bytea   NOT NULL CHECK (length(last) = 32),
    PRIMARY KEY (sink_id, ledger_id, partition)
) WITH (fillfactor = 10);
COMMENT ON COLUMN sink_positions.at IS 'milliseconds since 1970 of the last event, as the journal has it';

-- account_key = partition * 2^32 + number, numbered from 1 in the order of first mention in the partition's journal:
-- every rebuild gives the same keys, and sinks of different partitions never meet.
-- System accounts (sys:...) have neither tier nor floor, and exist once per partition.
CREATE TABLE account_terms (
    account_key   bigint  PRIMARY KEY,
    partition     integer NOT NULL CHECK (partition = account_key >> 32),
    account_id    text    NOT NULL,
    currency      text    NOT NULL CHECK (length(currency) = 3),
    normal_side   text    NOT NULL CHECK (normal_side IN ('debit', 'credit')),
    status        text    NOT NULL CHECK (status IN ('open', 'frozen', 'closed')),
    tier          text,
    floor_minor   bigint,
    ceiling_minor bigint,
    attributes    jsonb   NOT NULL,
    CHECK ((account_id LIKE 'sys:%') = (tier IS NULL AND floor_minor IS NULL)),
    UNIQUE (account_id, partition)
) WITH (fillfactor = 90);

-- Counters stay below 2^62. Hot and narrow, without any index but its key: updates stay on the page (HOT).
CREATE TABLE account_counters (
    account_key    bigint PRIMARY KEY,
    debits_posted  bigint NOT NULL CHECK (debits_posted >= 0 AND debits_posted < 4611686018427387904),
    credits_posted bigint NOT NULL CHECK (credits_posted >= 0 AND credits_posted < 4611686018427387904),
    held           bigint NOT NULL CHECK (held >= 0 AND held < 4611686018427387904),
    seq            bigint NOT NULL CHECK (seq > 0)
) WITH (fillfactor = 50);
COMMENT ON COLUMN account_counters.seq IS 'of the last event that had a leg on the account or carried its terms';

CREATE TABLE entries (
    seq        bigint      NOT NULL CHECK (seq > 0),
    at         timestamptz NOT NULL,
    partition  integer     NOT NULL,
    leg_count  smallint    NOT NULL CHECK (leg_count >= 2),
    type       text,
    request_id text,
    PRIMARY KEY (partition, seq)
);

-- Widest columns first, so that a row has no padding. The view postings shows account ids and sides by name.
CREATE TABLE posting_rows (
    seq          bigint   NOT NULL,
    account_key  bigint   NOT NULL,
    amount_minor bigint   NOT NULL CHECK (amount_minor > 0),
    partition    integer  NOT NULL CHECK (partition = account_key >> 32),
    leg          smallint NOT NULL CHECK (leg >= 1),
    is_debit     boolean  NOT NULL,
    currency     text     NOT NULL,
    PRIMARY KEY (partition, seq, leg)
);
-- For `statement ACCOUNT`. On the key alone: equal keys are stored once, so it stays small.
CREATE INDEX posting_rows_by_account ON posting_rows (account_key);

-- One row per answering event of a request. Ids are null where the record could not be read.
-- outcome is json, not jsonb: the very bytes that were published.
CREATE TABLE decisions (
    seq         bigint      NOT NULL CHECK (seq > 0),
    at          timestamptz NOT NULL,
    partition   integer     NOT NULL,
    binding     boolean     NOT NULL,
    replayed    boolean     NOT NULL,
    request_id  text,
    account_id  text,
    type        text,
    status      text        NOT NULL,
    reason      text,
    outcome     json        NOT NULL,
    explanation jsonb       NOT NULL,
    PRIMARY KEY (partition, seq)
);
-- For `outcome REQUEST_ID`.
CREATE INDEX decisions_by_request ON decisions (request_id);

-- Events that answer no request: config records that were judged, and records of transfers without effect.
CREATE TABLE config_pickups (
    seq           bigint      NOT NULL CHECK (seq > 0),
    at            timestamptz NOT NULL,
    partition     integer     NOT NULL,
    config_offset bigint      NOT NULL CHECK (config_offset >= 0),
    sha256        bytea       NOT NULL CHECK (length(sha256) = 32),
    version       text,
    verdict       text        NOT NULL CHECK (verdict IN ('active', 'refused')),
    reason        text,
    PRIMARY KEY (partition, seq)
);

CREATE TABLE skips (
    seq          bigint      NOT NULL CHECK (seq > 0),
    at           timestamptz NOT NULL,
    partition    integer     NOT NULL,
    input_offset bigint      NOT NULL CHECK (input_offset >= 0),
    reason       text        NOT NULL,
    PRIMARY KEY (partition, seq)
);
