-- Explanations are kept as the text that the journal holds, and become jsonb when they are read: to take them apart for every
-- row was a third of what the server had to do for a payment, and few are ever read. The view has the name and the columns that
-- readers know, jsonb included.
ALTER TABLE decisions RENAME TO decision_rows;
ALTER TABLE decision_rows RENAME CONSTRAINT decisions_pkey TO decision_rows_pkey;
ALTER INDEX decisions_by_request RENAME TO decision_rows_by_request;
ALTER TABLE decision_rows ALTER explanation TYPE json USING explanation::text::json;

CREATE VIEW decisions AS
SELECT seq, at, partition, binding, replayed, request_id, account_id, type, status, reason, outcome,
       explanation::jsonb AS explanation
  FROM decision_rows;

-- Whoever could read the table reads the view.
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                  FROM pg_class AS c, aclexplode(c.relacl) AS a
                 WHERE c.oid = 'decision_rows'::regclass AND a.privilege_type = 'SELECT' LOOP
        EXECUTE 'GRANT SELECT ON decisions TO ' || role;
    END LOOP;
END $$;

-- As before, on the table under its new name.
CREATE OR REPLACE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    events bigint;
    announced bigint;
    legs bigint;
BEGIN
    SELECT (SELECT count(*) FROM decision_rows WHERE partition = NEW.partition AND seq > OLD.seq AND seq <= NEW.seq)
         + (SELECT count(*) FROM config_pickups WHERE partition = NEW.partition AND seq > OLD.seq AND seq <= NEW.seq)
         + (SELECT count(*) FROM skips WHERE partition = NEW.partition AND seq > OLD.seq AND seq <= NEW.seq),
           (SELECT coalesce(sum(leg_count), 0) FROM entries
             WHERE partition = NEW.partition AND seq > OLD.seq AND seq <= NEW.seq),
           (SELECT count(*) FROM posting_rows WHERE partition = NEW.partition AND seq > OLD.seq AND seq <= NEW.seq)
      INTO events, announced, legs;
    IF NEW.seq < OLD.seq OR events <> NEW.seq - OLD.seq OR legs <> announced THEN
        RAISE EXCEPTION 'partition %: expected rows for exactly the events % to % with % legs, got % events and % legs',
            NEW.partition, OLD.seq + 1, NEW.seq, announced, events, legs
            USING ERRCODE = 'check_violation', CONSTRAINT = 'position_is_covered';
    END IF;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION refuse_gap() SET search_path TO %I, pg_temp', current_schema());
END $$;
