-- Which schema encoded an answer. What the present schema of a declared handler encoded is persisted inside the server, and not
-- handed out: see the store's inside.ts.
--
-- Locks: the queue for a moment; nothing is rewritten. Chunks recorded before this, or by a program of the version before
-- this one, have none and are handed out, as they were.

alter table sluice.chunk_queue add column if not exists fingerprint integer;
