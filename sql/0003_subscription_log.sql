-- The event log: which cluster's transaction numbers the ledger and the subscriptions go by, and what a subscription that
-- fails remembers of its search.
-- Locks: the new columns take an exclusive lock on sluice.subscription, for as long as it takes to note them in the
-- catalog: nothing is rewritten. Recording and draining do not touch that table.
-- Old and new subscribers may run side by side. Old ones neither search by halves nor look at sluice.subscription_log: once the
-- numbers have been rebased (see below) they read nothing any more and say so, and skip nothing.

-- One row. A line's number in the ledger (persisted_chunk.xact) is `base` plus the id of the transaction that wrote it; base
-- is also in the default of that column. It is 0 until the tables come to another cluster, whose ids begin elsewhere: then
-- it is raised above all numbers that came along, so that what is written from then on stands behind them.
-- `witness` is the transaction that wrote this row last. While it is the row's own xmin, the row was written by this
-- cluster. A dump or logical replication brings the column and not the xmin; a file copy, pg_upgrade, a standby or a
-- recovery to a point in time brings both, and there the ids go on as well. 0: not looked at yet.
-- Its name comes after that of persisted_chunk, in whose order a dump restores them: so what came along was written here before
-- this row was, and can be told from what this cluster persists.
create table if not exists sluice.subscription_log (
  only_row     boolean primary key default true check (only_row),
  base         bigint not null default 0,
  witness      xid8 not null default pg_current_xact_id(),
  witnessed_at timestamptz not null default now(),
  rebased_at   timestamptz
);

-- Where lines were persisted before this migration nobody knows whether the tables have been moved already.
insert into sluice.subscription_log (witness)
  select case when exists (select from sluice.persisted_chunk) then '0' else pg_current_xact_id() end
  on conflict do nothing;

-- suspects: so many entries from the place on were handed over and are not settled, because their handler failed or its
-- reader died. Half of them are handed over next. leased_by: who reads, for people.
alter table sluice.subscription add column if not exists suspects integer not null default 0;
alter table sluice.subscription add column if not exists leased_by text;

-- What people let a subscription pass over, and why.
create table if not exists sluice.subscription_skip (
  id              bigint generated always as identity primary key,
  name            text not null,
  call_id         text collate "C" not null,
  schema_identity text collate "C" not null,
  part            text collate "C" not null,
  last_error      text,
  reason          text not null,
  skipped_at      timestamptz not null default now()
);

create index if not exists subscription_skip_name on sluice.subscription_skip (name);
