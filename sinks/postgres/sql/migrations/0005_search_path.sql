-- A trigger looks into the ledger's own tables and nowhere else. Without pg_temp at the end of the path PostgreSQL would look
-- for them among the session's temporary tables first, and whoever may write could show the checks tables of his own.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['refuse_unbalanced', 'refuse_gap'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path TO %I, pg_temp', name, current_schema());
    END LOOP;
END $$;
