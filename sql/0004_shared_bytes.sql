-- What the chunks of a call share, its context and input, is handed out once a claim and counted once: so a claim must know
-- how much of a chunk's bytes that is.
--
-- Locks: the queue for a moment; nothing is rewritten. Chunks recorded before this, or by a program of the version before
-- this one, say 0 and count as they did: with all that is shared, each. Programs of that version count all of them so.

alter table sluice.chunk_queue add column if not exists shared_bytes integer not null default 0;
