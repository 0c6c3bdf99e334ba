-- The fingerprint of the schema that encoded an answer. If that is the present schema of a declared handler, the server
-- persists the answer without handing it to a worker: see the store's inside.ts.
--
-- Locks: the queue for a moment; nothing is rewritten. Chunks recorded before this migration, or by a program of the version
-- before this one, have none and are handed out, as before.

alter table sluice.chunk_queue add column if not exists fingerprint integer;
