-- How many answers of its declared handlers each worker has persisted inside the server and by claims, and what the server
-- refuses lastingly: `sluice status`, `sluice handlers` and the doctor show it.
--
-- Locks: the workers' table for a moment; nothing is rewritten. Workers of the version before this one do not write it.

alter table sluice.worker add column if not exists inside jsonb not null default '[]';
