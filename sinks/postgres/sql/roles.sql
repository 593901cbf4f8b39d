-- Roles belong to the whole server, so this runs before the numbered migrations and may run again at any time.
-- ledgerline_owner owns everything and cannot log in; login users are granted ledgerline_writer or ledgerline_reader.
-- Another migration may create them at the same moment, in another database: that is not an error.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ledgerline_owner', 'ledgerline_writer', 'ledgerline_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF NOT pg_has_role(current_user, name, 'USAGE') THEN
            EXECUTE format('GRANT %I TO %I', name, current_user);
        END IF;
    END LOOP;
END $$;
