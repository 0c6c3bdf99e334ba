-- Ordering keys count within a namespace: the indexes that find the chunks and letters of a key hold the namespace as well.
-- And a chunk remembers the leases that ran out under it, so that a worker which was only cut off can take back that it
-- was counted as a crash.
--
-- Locks: adding the column needs the queue for a moment, and rewrites nothing. The indexes are built concurrently: recording
-- and draining go on, whatever the size of the tables.
--
-- While workers of the version before this one are still running: they take a key to be one for all namespaces. What they
-- put aside behind a chunk of another namespace nothing would wake; the beat of a new worker releases it, portion by portion,
-- and `sluice mend` releases all of it at once. An old worker finds a key's chunks by the same indexes, a little slower. A
-- crash that an old worker counted is not taken back.

-- The tokens of leases that ran out under it and were counted as crashes, and whether each one's worker had nothing else under
-- way: { token: alone }.
alter table sluice.chunk_queue add column if not exists lost_leases jsonb;

-- The key first, though the namespace is the wider one: so old workers, which ask by the key alone, use them too.
create index concurrently if not exists chunk_queue_namespace_key on sluice.chunk_queue (ordering_key, namespace, seq)
  where ordering_key is not null;
create index concurrently if not exists chunk_queue_namespace_waiting on sluice.chunk_queue (ordering_key, namespace, seq)
  where state = 'waiting';
create index concurrently if not exists dead_letter_namespace_key on sluice.dead_letter (ordering_key, namespace, seq)
  where ordering_key is not null and discarded_at is null;

-- What they replace.
drop index concurrently if exists sluice.chunk_queue_key;
drop index concurrently if exists sluice.chunk_queue_waiting;
drop index concurrently if exists sluice.dead_letter_key;
