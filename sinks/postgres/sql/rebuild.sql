-- What `ledgerline rebuild` asks and does besides reading rows. {live}, {rebuilt}, {retired} are quoted names of schemas: what
-- is renamed cannot be a parameter.

-- name: rebuild_alone
-- One rebuild per database: two would drop each other's rows. Held by the session; gone when it ends, however it ends.
SELECT pg_try_advisory_lock($1);

-- name: rebuild_holder
-- Who has that lock: a key of 64 bits stands in two halves.
SELECT a.pid, a.backend_start
  FROM pg_locks AS l
  JOIN pg_stat_activity AS a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND ((l.classid::bigint << 32) | l.objid::bigint) = $1;

-- name: live_positions
-- Where the live sinks are.
SELECT p.* FROM sink_positions AS p JOIN ledger AS l USING (sink_id, ledger_id) ORDER BY p.partition;

-- name: ledger_tables
-- The tables of a schema, quoted; positions first: a sink locks them first.
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relkind = 'r'
 ORDER BY c.relname <> 'sink_positions', c.relname;

-- name: foreign_objects
-- What a switch would leave behind: objects in the live schema ($1) that migrations do not make (they made $2), and objects
-- elsewhere that are tied to its tables and would silently go on with the old rows.
SELECT format('%I.%I', $1::text, c.relname) AS name
  FROM pg_class AS c
 WHERE c.relnamespace = to_regnamespace(quote_ident($1))
   AND NOT EXISTS (SELECT FROM pg_class AS r
                    WHERE r.relnamespace = to_regnamespace(quote_ident($2)) AND (r.relname, r.relkind) = (c.relname, c.relkind))
UNION
SELECT format('function %I.%I', $1::text, f.proname)
  FROM pg_proc AS f
 WHERE f.pronamespace = to_regnamespace(quote_ident($1))
   AND NOT EXISTS (SELECT FROM pg_proc AS r
                    WHERE r.pronamespace = to_regnamespace(quote_ident($2)) AND r.proname = f.proname)
UNION
SELECT format('trigger %I on %s', g.tgname, g.tgrelid::regclass)
  FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid
 WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND NOT g.tgisinternal
   AND NOT EXISTS (SELECT FROM pg_trigger AS h JOIN pg_class AS r ON r.oid = h.tgrelid
                    WHERE r.relnamespace = to_regnamespace(quote_ident($2)) AND (r.relname, h.tgname) = (c.relname, g.tgname))
UNION
SELECT format('view %s', w.ev_class::regclass)
  FROM pg_depend AS d
  JOIN pg_rewrite AS w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_class AS v ON v.oid = w.ev_class
  JOIN pg_class AS c ON c.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
 WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND v.relnamespace <> c.relnamespace
UNION
SELECT format('function %s', f.oid::regprocedure)
  FROM pg_depend AS d
  JOIN pg_proc AS f ON f.oid = d.objid AND d.classid = 'pg_proc'::regclass
  JOIN pg_class AS c ON c.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
 WHERE c.relnamespace = to_regnamespace(quote_ident($1))
UNION
SELECT format('policy %I on %s', p.polname, p.polrelid::regclass)
  FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
 WHERE c.relnamespace = to_regnamespace(quote_ident($1))
UNION
SELECT format('foreign key %I of %s', k.conname, k.conrelid::regclass)
  FROM pg_constraint AS k
  JOIN pg_class AS c ON c.oid = k.confrelid
  JOIN pg_class AS v ON v.oid = k.conrelid
 WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND v.relnamespace <> c.relnamespace
UNION
SELECT format('publication %I of %s', p.pubname, r.prrelid::regclass)
  FROM pg_publication_rel AS r
  JOIN pg_publication AS p ON p.oid = r.prpubid
  JOIN pg_class AS c ON c.oid = r.prrelid
 WHERE c.relnamespace = to_regnamespace(quote_ident($1))
UNION
SELECT format('publication %I of schema %I', p.pubname, $1::text)
  FROM pg_publication_namespace AS r JOIN pg_publication AS p ON p.oid = r.pnpubid
 WHERE r.pnnspid = to_regnamespace(quote_ident($1))
ORDER BY name;

-- name: lost_grants
-- Statements that give roles in $2 what they were granted in $1 beyond what migrations grant.
WITH granted AS (
    SELECT n.nspname, format('SCHEMA %I', $2::text) AS target, a.grantee, a.privilege_type, '' AS columns, a.is_grantable
      FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
    UNION ALL
    SELECT n.nspname, format('%I.%I', $2::text, c.relname), a.grantee, a.privilege_type, '', a.is_grantable
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS a
    UNION ALL
    SELECT n.nspname, format('%I.%I', $2::text, c.relname), a.grantee, a.privilege_type, format('(%I)', t.attname), a.is_grantable
      FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
           aclexplode(t.attacl) AS a
), lost AS (
    SELECT target, grantee, privilege_type, columns, is_grantable FROM granted WHERE nspname = $1
    EXCEPT
    SELECT target, grantee, privilege_type, columns, is_grantable FROM granted WHERE nspname = $2
)
SELECT format('GRANT %s %s ON %s TO %s%s', privilege_type, columns, target,
              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM lost;

-- name: retired_name
-- What the old schema is called from now on.
SELECT $1::text || to_char(now() AT TIME ZONE 'UTC', '"_retired_"YYYYMMDD"_"HH24MISS');

-- name: inherit_ledger
-- The rebuilt rows become the live sink's.
UPDATE {rebuilt}.ledger AS r SET sink_id = l.sink_id FROM {live}.ledger AS l WHERE l.ledger_id = r.ledger_id;

-- name: inherit_positions
-- Under a higher sink_epoch than any taker has: every running sink is deposed, and takes its partitions again from here.
UPDATE {rebuilt}.sink_positions AS r
   SET sink_id = l.sink_id, sink_epoch = greatest(r.sink_epoch, l.sink_epoch) + 1
  FROM {live}.sink_positions AS l
 WHERE l.partition = r.partition AND l.ledger_id = r.ledger_id AND l.next_offset = r.next_offset;

-- name: count_positions
SELECT count(*) FROM {live}.sink_positions;

-- name: rename_live
ALTER SCHEMA {live} RENAME TO {retired};

-- name: rename_rebuilt
ALTER SCHEMA {rebuilt} RENAME TO {live};

-- name: path_settings
-- Functions name the schema in a setting of theirs, which a rename does not change.
SELECT format('ALTER FUNCTION %s SET search_path TO %I, pg_temp', f.oid::regprocedure, n.nspname)
  FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
 WHERE n.nspname = ANY ($1::text[])
   AND EXISTS (SELECT FROM unnest(f.proconfig) AS setting WHERE setting LIKE 'search_path=%');

-- name: table_users
-- Sessions that keep the live tables open.
SELECT DISTINCT a.pid, a.application_name
  FROM pg_locks AS l
  JOIN pg_stat_activity AS a USING (pid)
  JOIN pg_class AS c ON c.oid = l.relation
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND l.granted AND l.pid <> pg_backend_pid()
 ORDER BY a.pid LIMIT 10;
