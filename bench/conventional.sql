-- The conventional way, as good as we can make it: one function call per payment, which is one transaction and one
-- round trip. Integer account keys, rows that leave room for updates in place, no secondary index, the limits as
-- constants, no score, no explanation, no near-duplicates. The order of locks rules out deadlocks.
CREATE TABLE accounts (
    account       bigint PRIMARY KEY,
    balance_minor bigint NOT NULL,
    used_on       date   NOT NULL,
    used_minor    bigint NOT NULL,
    used_count    bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE payments (
    account      bigint NOT NULL,
    request_id   text   NOT NULL,
    payee        bigint NOT NULL,
    amount_minor bigint NOT NULL,
    status       text   NOT NULL,
    reason       text,
    balance_minor bigint,
    at           timestamptz NOT NULL,
    PRIMARY KEY (account, request_id)
);

CREATE TABLE postings (
    account      bigint NOT NULL,
    request_id   text   NOT NULL,
    payer        bigint NOT NULL,
    amount_minor bigint NOT NULL,
    at           timestamptz NOT NULL
);

CREATE FUNCTION pay(p_request text, p_payer bigint, p_payee bigint, p_amount bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    payer    accounts;
    one      accounts;
    found_n  int := 0;
    today    date := (now() AT TIME ZONE 'UTC')::date;
    v_status text := 'accepted';
    v_reason text;
    used     bigint := 0;
    n        bigint := 0;
BEGIN
    FOR one IN SELECT * FROM accounts WHERE account IN (p_payer, p_payee) ORDER BY account FOR NO KEY UPDATE LOOP
        found_n := found_n + 1;
        IF one.account = p_payer THEN payer := one; END IF;
    END LOOP;
    IF payer.used_on = today THEN used := payer.used_minor; n := payer.used_count; END IF;
    IF found_n < 2 THEN
        v_status := 'declined'; v_reason := 'account_not_found';
    ELSIF payer.balance_minor < p_amount THEN
        v_status := 'declined'; v_reason := 'insufficient_funds';
    ELSIF p_amount > 1000000 OR used + p_amount > 1000000000000 OR n + 1 > 1000000 THEN
        v_status := 'declined'; v_reason := 'limit_exceeded';
    END IF;

    -- The row of the request: who comes second gets the first one's answer. Nothing was changed before this line.
    INSERT INTO payments VALUES (p_payer, p_request, p_payee, p_amount, v_status, v_reason,
        payer.balance_minor - CASE v_status WHEN 'accepted' THEN p_amount ELSE 0 END, now())
    ON CONFLICT (account, request_id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT CASE WHEN payee = p_payee AND amount_minor = p_amount THEN status ELSE 'conflict' END INTO v_status
          FROM payments WHERE account = p_payer AND request_id = p_request;
        RETURN v_status;
    END IF;

    IF v_status = 'accepted' THEN
        UPDATE accounts
           SET balance_minor = balance_minor + CASE account WHEN p_payer THEN -p_amount ELSE p_amount END,
               used_on    = CASE account WHEN p_payer THEN today ELSE used_on END,
               used_minor = CASE account WHEN p_payer THEN used + p_amount ELSE used_minor END,
               used_count = CASE account WHEN p_payer THEN n + 1 ELSE used_count END
         WHERE account IN (p_payer, p_payee);
        INSERT INTO postings VALUES (p_payer, p_request, p_payer, -p_amount, now()),
                                    (p_payee, p_request, p_payer, p_amount, now());
    END IF;
    RETURN v_status;
END
$$;
