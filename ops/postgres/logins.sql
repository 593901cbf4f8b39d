-- The users that docker-compose.yml logs in with, once, when its PostgreSQL is new; roles.sql has run before.
-- A sink writes with the rights of ledgerline_writer; a worker only reads how far the sink is. Neither owns anything.
\getenv worker_password WORKER_PASSWORD
\getenv sink_password SINK_PASSWORD
CREATE ROLE ledgerline_worker LOGIN PASSWORD :'worker_password' IN ROLE ledgerline_reader;
CREATE ROLE ledgerline_sink LOGIN PASSWORD :'sink_password' IN ROLE ledgerline_writer;
