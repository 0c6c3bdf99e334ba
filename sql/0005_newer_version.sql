-- A chunk recorded at a version newer than its handler reads is parked, with a reason of its own, and taken up by a worker that
-- reads it. Workers look among the parked by the version as well, so that what nobody reads yet is not read at every beat.
--
-- Locks: the queue for a moment, to change a constraint; what is there is not looked at, for it satisfies the narrower one. The
-- index is built concurrently: recording and draining go on, whatever the size of the tables.
--
-- While workers of the version before this one are still running: they take up what is parked for its version and bury it as
-- `unknown-version`, as they did before; redrive that when they are gone.

alter table sluice.chunk_queue
  drop constraint if exists chunk_queue_parked_for_check,
  add constraint chunk_queue_parked_for_check check (parked_for in ('no-handler', 'newer-version', 'paused')) not valid;

create index concurrently if not exists chunk_queue_parked_version
  on sluice.chunk_queue (namespace, schema_identity, parked_for, schema_version) where state = 'parked';
-- What it replaces.
drop index concurrently if exists sluice.chunk_queue_parked;
