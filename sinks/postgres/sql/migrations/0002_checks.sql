-- What must hold for every transaction, checked again by the database.

-- Every posting that one statement inserts belongs to an entry whose legs are all in that statement: numbered from 1, as many
-- as it says (at least two), and balanced per currency. So nothing can be added to an entry later, and none is half written.
CREATE FUNCTION refuse_unbalanced() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    wrong record;
BEGIN
    SELECT i.partition, i.seq, i.legs, i.last_leg, i.sums, e.leg_count INTO wrong
      FROM (SELECT c.partition, c.seq, sum(c.legs) AS legs, max(c.last_leg) AS last_leg,
                   bool_or(c.difference <> 0) AS unbalanced,
                   string_agg(c.currency || ' debit - credit = ' || c.difference, ', ') AS sums
              FROM (SELECT partition, seq, currency, count(*) AS legs, max(leg) AS last_leg,
                           sum(CASE WHEN is_debit THEN amount_minor ELSE -amount_minor END) AS difference
                      FROM inserted GROUP BY partition, seq, currency) AS c
             GROUP BY c.partition, c.seq) AS i
      LEFT JOIN entries AS e ON e.partition = i.partition AND e.seq = i.seq
     WHERE i.unbalanced OR e.leg_count IS DISTINCT FROM i.legs OR i.last_leg <> i.legs
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry %-%: expected % legs from 1 on that balance per currency, got % legs up to % with %',
            wrong.partition, wrong.seq, coalesce(wrong.leg_count::text, 'a row in entries that states the number of'),
            wrong.legs, wrong.last_leg, wrong.sums USING ERRCODE = 'check_violation', CONSTRAINT = 'entry_balances';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER entry_balances AFTER INSERT ON posting_rows REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced();

-- At COMMIT, once per batch: the rows behind a position that moved are exactly the events it moved over. One row of
-- decisions, config_pickups or skips per seq, and every leg that the entries announce.
CREATE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    events bigint;
    announced bigint;
    legs bigint;
BEGIN
    SELECT (SELECT count(*) FROM decisions WHERE partition = NEW.partition AND seq > OLD.seq AND seq <= NEW.seq)
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

CREATE CONSTRAINT TRIGGER position_is_covered AFTER UPDATE ON sink_positions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.seq <> NEW.seq) EXECUTE FUNCTION refuse_gap();
